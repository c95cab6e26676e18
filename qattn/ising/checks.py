"""What the arguments of an Ising batch must be."""

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.couplings import Block
from qattn.couplings.base import Couplings, check_finite

SYMMETRY_TOLERANCE = 1e-6
"""Largest |J_jk - J_kj|, relative to max |J|, that counts as rounding and not as an error."""


def check_shapes(h: Tensor, J: Tensor | Couplings) -> None:
    """Raise unless h and J fit each other."""
    if h.ndim != 3 or 0 in h.shape:
        raise ValueError(
            f"Argument `h` must have shape (groups, queries, spins) with at least one of each, "
            f"but has shape {tuple(h.shape)}."
        )
    groups, _, spins = h.shape
    if isinstance(J, Couplings):
        if (J.num_groups, J.num_spins) != (groups, spins):
            raise ValueError(
                f"Argument `J` must have {groups} groups of {spins} spins to match `h`, "
                f"but has {J.num_groups} of {J.num_spins}."
            )
    elif J.shape != (groups, spins, spins):
        raise ValueError(
            f"Argument `J` must have shape (groups, spins, spins) = {(groups, spins, spins)} to "
            f"match `h`, but has shape {tuple(J.shape)}."
        )
    if h.dtype not in (torch.float32, torch.float64) or J.dtype != h.dtype:
        raise TypeError(
            f"Arguments `h` and `J` must both be float32 or both float64, "
            f"but are {h.dtype} and {J.dtype}."
        )
    if h.device != J.device:
        raise ValueError(
            f"Arguments `h` and `J` must be on one device, but are on {h.device} and {J.device}."
        )


def checked_couplings(
    J: Float[Tensor, "groups n n"] | Couplings,
) -> Float[Tensor, "groups n n"] | Couplings:
    """J with rounding of its symmetry averaged away, also in blocks; other structures checked.

    Raises:
        ValueError: J is not finite, not symmetric, or its diagonal is not zero.
    """
    if isinstance(J, Block):
        blocks = checked_couplings(J.values.flatten(0, 1))
        assert isinstance(blocks, Tensor)
        return J.with_values(blocks.unflatten(0, J.values.shape[:2]))
    if isinstance(J, Couplings):
        J.check()
        return J
    with torch.no_grad():
        check_finite("J", J)
        scale = float(J.abs().max())
        asymmetry = float((J - J.mT).abs().max())
        diagonal = float(J.diagonal(dim1=-2, dim2=-1).abs().max())
    if asymmetry > SYMMETRY_TOLERANCE * scale:
        raise ValueError(
            f"Argument `J` must be symmetric, but max |J_jk - J_kj| = {asymmetry:.3g}. Pass "
            f"(J + J.mT) / 2, or J.triu(1) + J.triu(1).mT for couplings given in one triangle."
        )
    if diagonal > 0:
        raise ValueError(
            f"Argument `J` must have a zero diagonal, but max |J_jj| = {diagonal:.3g}. "
            f"s_j s_j = 1 is a constant: subtract torch.diag_embed(J.diagonal(dim1=-2, dim2=-1))."
        )
    return (J + J.mT) / 2


def check_beta(beta: float | Tensor) -> None:
    """Raise a ValueError unless every inverse temperature is finite and not negative."""
    # A number is looked at on the CPU: the default device may be one without values.
    values = beta.detach() if isinstance(beta, Tensor) else torch.tensor(beta, device="cpu")
    if not bool((values.isfinite() & (values >= 0)).all()):
        raise ValueError(f"Argument `beta` must be finite and not negative, but is {beta}.")


def checked_lengths(lengths: Tensor, h: Tensor, validate: bool) -> Tensor:
    """Lengths on the CPU, checked."""
    groups, queries, spins = h.shape
    if tuple(lengths.shape) not in ((queries,), (groups, queries)):
        raise ValueError(
            f"Argument `lengths` must have shape ({queries},) or ({groups}, {queries}), "
            f"but has shape {tuple(lengths.shape)}."
        )
    if lengths.is_floating_point() or lengths.dtype == torch.bool:
        raise TypeError(f"Argument `lengths` must hold integers, but is {lengths.dtype}.")
    lengths = lengths.detach().to("cpu", torch.int64)
    if validate and lengths.numel() and (int(lengths.min()) < 0 or int(lengths.max()) > spins):
        raise ValueError(
            f"Argument `lengths` must lie between 0 and {spins} (the spins of `h`), "
            f"but ranges from {int(lengths.min())} to {int(lengths.max())}."
        )
    return lengths
