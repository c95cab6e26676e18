"""Thermodynamic curves of an Ising batch, by whatever way its couplings allow."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qattn.backends import Backend, get_backend
from qattn.couplings import Cardinality
from qattn.ising.batch import IsingBatch
from qattn.thermodynamics.curves import engines, enumeration, mbar
from qattn.thermodynamics.curves.choice import exact_engine
from qattn.thermodynamics.curves.jackknife import standard_error
from qattn.thermodynamics.curves.quantities import Curves, Moments, quantities
from qattn.thermodynamics.temperatures import as_betas


def thermodynamic_curves(
    batch: IsingBatch,
    betas: Float[Tensor, " betas"] | Sequence[float],
    *,
    backend: str | Backend | None = None,
    num_reads: int = 1000,
    seed: int | None = None,
) -> Curves:
    r"""Free energy, energy, entropy, heat capacity, susceptibilities, … against β.

    Without a backend all is exact that can be: up to 20 spins by enumeration; beyond, ln Z, F, U, S
    and ⟨m⟩ by the engine of the couplings (:mod:`qattn.exact`; of a tensor J by tree decomposition,
    up to 24 spins also by enumeration), C by differences of U, and what needs the distribution of m
    or of the overlap from independent exact reads at each β. With a backend all comes from its
    reads at a ladder of temperatures from β = 0 on, joined by MBAR to one estimate at all β: some 8
    to 64 temperatures, as many as overlap. Quantities that are not exact have standard errors in
    :attr:`Curves.errors`.

    Args:
        batch: The models.
        betas: Inverse temperatures, ascending from 0 or more, in units that multiply the batch's
            own β: the batch itself is at 1.
        backend: A backend or its name, to take all from reads.
        num_reads: Reads of each query at each temperature, rounded up to a multiple of 23, the
            number of blocks of the jackknife. Without a backend it may be 0: what would need reads
            is then nan.
        seed: Seed of the reads; None means one from PyTorch's global generator.

    Raises:
        ValueError: `betas` do not ascend from 0 or more, `num_reads` is negative, or 0 with a
            backend, or no engine is exact for the couplings and there is no backend.
        MemoryError: An engine needs more than ``qattn.exact.memory.MEMORY_LIMIT``.

    Warns:
        OverlapWarning: Reads of neighbouring temperatures do not overlap; the curves of such a
            query are nan.

    A single spin in a field of 1 is ln 2 cosh β, a two-level system:

    >>> batch = IsingBatch(torch.ones(1, 1, 1), torch.zeros(1, 1, 1))
    >>> curves = thermodynamic_curves(batch, [1.0, 2.0])
    >>> curves.log_Z  # (groups, queries, betas)
    tensor([[[1.1269, 2.0181]]], dtype=torch.float64)
    >>> curves.heat_capacity
    tensor([[[0.4200, 0.2826]]], dtype=torch.float64)
    """
    betas = as_betas(betas)
    if num_reads < 0 or (backend is not None and num_reads == 0):
        raise ValueError(f"Argument `num_reads` must be positive, but is {num_reads}.")
    num_spins = torch.from_numpy(batch.num_active.copy())
    symmetric = is_symmetric(batch)
    if backend is not None:
        backend = get_backend(backend) if isinstance(backend, str) else backend
        found, number = mbar.moments(batch, betas, backend, num_reads, seed)
        method = f"reads of {backend.name or type(backend).__name__} at {number} temperatures, MBAR"
        return curves_of(found, betas, num_spins, symmetric, method)
    engine = exact_engine(batch)
    if engine == "enumeration":
        moments = enumeration.moments(batch, betas)
        values = quantities(moments, betas, num_spins, symmetric)
        return Curves(betas, num_spins, **values, method=engine, errors={}, replicates={})
    found, error = engines.moments(batch, betas, num_reads, seed)
    method = f"{engine}, and {num_reads} independent reads" if num_reads else engine
    curves = curves_of(found, betas, num_spins, symmetric, method)
    return replace(curves, errors={**curves.errors, "heat_capacity": error})


def curves_of(
    moments: Moments,
    betas: Float[Tensor, " betas"],
    num_spins: Int[Tensor, "groups queries"],
    symmetric: Bool[Tensor, "groups queries"],
    method: str,
) -> Curves:
    """Curves of the first replicate, with errors from the others.

    Args:
        moments: Averages of all replicates, (replicates, groups, queries, betas).
        betas: The inverse temperatures.
        num_spins: Number of spins.
        symmetric: Whether a model is the same with all spins flipped.
        method: How they came about.
    """
    values = quantities(moments, betas, num_spins, symmetric)
    replicates = {name: value[1:] for name, value in values.items()}
    return Curves(
        betas,
        num_spins,
        **{name: value[0] for name, value in values.items()},
        method=method,
        errors={
            name: standard_error(value).masked_fill(values[name][0].isinf(), 0)
            for name, value in replicates.items()
        },
        replicates=replicates,
    )


def is_symmetric(batch: IsingBatch) -> Bool[Tensor, "groups queries"]:
    """Whether a query's energy is the same with all spins flipped: h = 0, and even interactions."""
    active = batch.active.expand(batch.h.shape)
    even = ((batch.h == 0) | ~active).all(-1).cpu()
    if isinstance(batch.J, Cardinality):
        # log φ(c) = log φ(n - c); counts above those that are given have φ = 0.
        table = batch.J.values.detach().cpu()
        for g, q in even.nonzero().tolist():
            n = int(batch.num_active[g, q])
            log_phi = torch.full((n + 1,), -torch.inf, dtype=table.dtype)
            known = min(n + 1, table.shape[1])
            log_phi[:known] = table[g, :known]
            even[g, q] = torch.allclose(log_phi, log_phi.flip(0), rtol=1e-5, atol=1e-6)
    return even
