"""Thermodynamic curves of an Ising batch, by whatever way its couplings allow."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from qattn.couplings import Cardinality
from qattn.ising.batch import IsingBatch
from qattn.thermodynamics.curves import enumeration
from qattn.thermodynamics.curves.quantities import Curves, quantities
from qattn.thermodynamics.temperatures import as_betas

MOST_SPINS = 20
"""Spins up to which all states are enumerated: some 30 ms a query and β at 20 spins."""


def thermodynamic_curves(
    batch: IsingBatch, betas: Float[Tensor, " betas"] | Sequence[float]
) -> Curves:
    r"""Free energy, energy, entropy, heat capacity, susceptibilities, … against β.

    Args:
        batch: The models.
        betas: Inverse temperatures, ascending from 0 or more, in units that multiply the batch's
            own β: the batch itself is at 1.

    Raises:
        ValueError: `betas` do not ascend from 0 or more.

    A single spin in a field of 1 is ln 2 cosh β, a two-level system:

    >>> batch = IsingBatch(torch.ones(1, 1, 1), torch.zeros(1, 1, 1))
    >>> curves = thermodynamic_curves(batch, [1.0, 2.0])
    >>> curves.log_Z  # (groups, queries, betas)
    tensor([[[1.1269, 2.0181]]], dtype=torch.float64)
    >>> curves.heat_capacity
    tensor([[[0.4200, 0.2826]]], dtype=torch.float64)
    """
    betas = as_betas(betas)
    num_spins = torch.from_numpy(batch.num_active.copy())
    moments = enumeration.moments(batch, betas)
    values = quantities(moments, betas, num_spins, is_symmetric(batch))
    return Curves(betas, num_spins, **values, method="enumeration")


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
