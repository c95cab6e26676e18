"""The critical β of each head of an attention layer, quickly enough to be followed in training."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qattn import exact
from qattn.couplings import Couplings
from qattn.ising.batch import IsingBatch
from qattn.thermodynamics.critical import peaks
from qattn.thermodynamics.softmax import softmax_curves
from qattn.thermodynamics.temperatures import as_betas

BETAS = tuple(2.0 ** (k / 2) for k in range(-6, 7))
"""Multiples of the present β among which a peak is looked for."""

ROUNDING = 1e-10
"""Fluctuations below are those of rounding, as without couplings or of equal scores."""

NUM_QUERIES = 128
"""Queries of each head that are looked at."""

SEQUENCES = 16
"""Sequences that these are from, at most, where each has couplings of its own."""


@torch.no_grad()
def critical_betas_of_heads(
    models: Float[Tensor, "batch heads queries positions"] | IsingBatch,
    *,
    num_heads: int | None = None,
    betas: Sequence[float] = BETAS,
    num_queries: int = NUM_QUERIES,
    seed: int = 0,
) -> Float[Tensor, " heads"]:
    r"""β at the peak of each head's mean fluctuation, in units that multiply the present β.

    For softmax attention the fluctuation is the heat capacity per position, C/n. For Boltzmann
    attention it is the spin-glass susceptibility of different spins, (1/n) Σ_{j≠k} Cov(s_j, s_k)²:
    with j = k it would be 1 at β = 0, and fall from there in fields. The mean is over queries of
    two or more positions, drawn at random by the seed. The peak is that of a parabola in ln β. nan
    for a head without a peak within the range, as without couplings, or without fields, where
    correlations grow until all spins are frozen: nothing is known of its critical β then.

    Args:
        models: Scores of softmax attention, -∞ where a query does not see a position; or the Ising
            models of a batch of sequences, whose groups are heads, or (sequence, head).
        num_heads: Number of heads of an IsingBatch; None for as many as it has groups.
        betas: Where to look, ascending from above 0: three or more.
        num_queries: Most queries of each head that are looked at.
        seed: Seed of their choice.

    Raises:
        ValueError: `betas` do not ascend from above 0 or are fewer than three, or `num_heads` does
            not divide the groups.
        MemoryError: No engine solves the Ising models exactly (:mod:`qattn.exact`).

    Every query has two positions whose scores differ by 2, the two-level system of
    :func:`qattn.thermodynamics.critical_beta`:

    >>> scores = torch.tensor([1.0, -1.0]).expand(3, 1, 5, 2)
    >>> critical_betas_of_heads(scores)
    tensor([1.1938], dtype=torch.float64)
    """
    grid = as_betas(betas)
    if len(grid) < 3 or float(grid[0]) == 0:
        raise ValueError(
            f"Argument `betas` must be three or more numbers above 0, but is {list(betas)}."
        )
    generator = torch.Generator().manual_seed(seed)
    if isinstance(models, IsingBatch):
        heads = models.num_groups if num_heads is None else num_heads
        if models.num_groups % heads:
            raise ValueError(
                f"Argument `num_heads` must divide the {models.num_groups} groups of `models`, "
                f"but is {heads}."
            )
        rows, sizes = _cross_susceptibility(models, heads, grid, num_queries, generator)
    else:
        of_heads = models.transpose(0, 1).flatten(1, 2)
        number = of_heads.shape[1]
        # Of queries that see two or more positions in some head.
        several = ((of_heads > -torch.inf).sum(-1) >= 2).any(0).nonzero().squeeze(1).cpu()
        chosen = several[_some(len(several), min(num_queries, number), generator)]
        curves = softmax_curves(of_heads[:, chosen.to(of_heads.device)], grid)
        sizes = curves.num_positions
        rows = curves.heat_capacity / sizes.unsqueeze(-1)
    counted = (sizes >= 2).unsqueeze(-1) & rows.isfinite().all(-1, keepdim=True)
    mean = torch.where(counted, rows, 0).sum(1) / counted.sum(1)
    place, height, inside = peaks(grid.log(), mean)
    return place.exp().masked_fill(~inside | (height < ROUNDING), torch.nan)


def _cross_susceptibility(
    batch: IsingBatch,
    heads: int,
    grid: Float[Tensor, " betas"],
    num_queries: int,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "heads rows betas"], Int[Tensor, "heads rows"]]:
    """(1/n) Σ_{j≠k} Cov(s_j, s_k)² of some queries of each head, and their numbers of spins."""
    h, J = batch.scaled_structure()
    sequences = batch.num_groups // heads
    seen = _some(sequences, SEQUENCES, generator)
    groups = (seen[:, None] * heads + torch.arange(heads)).flatten()
    lengths = torch.from_numpy(batch.num_active.copy())
    several = (lengths >= 2).any(0).nonzero().squeeze(1)
    chosen = several[_some(len(several), max(1, num_queries // len(seen)), generator)]
    lengths = lengths[groups][:, chosen]
    device, K = h.device, len(grid)
    h, J = h.detach()[groups.to(device)][:, chosen.to(device)], J.detach()[groups.to(device)]
    # Each β as further groups.
    at_all = IsingBatch(
        h.repeat(K, 1, 1),
        J.repeated(K) if isinstance(J, Couplings) else J.repeat(K, 1, 1),
        lengths.repeat(K, 1),
        grid.to(h).repeat_interleave(len(groups)),
        validate=False,
    )
    mean = exact.mean_spins(at_all)
    covariances = exact.pair_correlations(at_all) - mean.unsqueeze(-1) * mean.unsqueeze(-2)
    squares = covariances.double().square()
    chi = squares.sum((2, 3)) - squares.diagonal(0, 2, 3).sum(2)
    chi = chi.cpu().unflatten(0, (K, len(seen), heads))
    chi = chi.permute(2, 1, 3, 0).flatten(1, 2)
    sizes = lengths.unflatten(0, (len(seen), heads)).transpose(0, 1).flatten(1, 2)
    return chi / sizes.clamp_min(1).unsqueeze(-1), sizes


def _some(number: int, most: int, generator: torch.Generator) -> Int[Tensor, " chosen"]:
    """All numbers, or `most` of them at random, ascending."""
    return torch.randperm(number, generator=generator)[:most].sort().values
