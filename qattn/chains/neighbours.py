"""Which spins each spin is coupled to, where these are few."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qattn.couplings import Banded, LowRank
from qattn.ising.batch import IsingBatch

FEW = 0.5
"""Share of the spins that a spin may be coupled to, at most, for lists of neighbours."""

Sweepable = Tensor | Banded | LowRank
"""Couplings that are swept as they are."""


class Neighbours(NamedTuple):
    """Lists of the same length for all spins and groups; a coupling may be 0.

    Attributes:
        others: The neighbours of each spin.
        J: The couplings to them.
    """

    others: Int[Tensor, "n degree"]
    J: Float[Tensor, "g n degree"]

    def in_order(self, order: Int[Tensor, " n"]) -> "Neighbours":
        """Those of spins that are numbered anew: spin order[k] becomes k."""
        return Neighbours(order.argsort()[self.others[order]], self.J[:, order])


def neighbours_of(J: Sweepable) -> Neighbours | None:
    """The lists of a band or of a sparse matrix; None if they would be long."""
    if isinstance(J, Banded):
        return _of_band(J)
    if not isinstance(J, Tensor):
        return None
    coupled = (J != 0).any(0)
    degree = int(coupled.sum(1).max())
    if degree > FEW * len(coupled):
        return None
    # Neighbours first, then others to which the coupling is 0.
    others = coupled.byte().argsort(dim=1, descending=True, stable=True)[:, :degree]
    return Neighbours(others, J.gather(2, others.expand(len(J), -1, -1)))


def _of_band(J: Banded) -> Neighbours:
    n, width = J.num_spins, min(J.width, J.num_spins - 1)
    distances = torch.arange(1, width + 1, device=J.device)
    spins = torch.arange(n, device=J.device).unsqueeze(1)
    lower, upper = spins - distances, spins + distances
    # J_{j,j-d} stands at spin j, J_{j+d,j} at spin j + d.
    before = J.values[:, :, :width] * (lower >= 0)
    after = torch.zeros_like(before)
    for d in range(1, width + 1):
        after[:, :-d, d - 1] = J.values[:, d:, d - 1]
    others = torch.cat([lower.clamp_min(0), upper.clamp_max(n - 1)], 1)
    return Neighbours(others, torch.cat([before, after], 2))


def sweepable(batch: IsingBatch) -> IsingBatch:
    """The models at β = 1 with couplings that are swept as they are, or as a matrix; detached.

    Raises:
        ValueError: The interaction is that of no matrix
            (:meth:`qattn.couplings.Couplings.dense`).
    """
    as_it_is = isinstance(batch.J, (Tensor, Banded, LowRank))
    h, J = batch.scaled_structure() if as_it_is else batch.scaled()
    return IsingBatch(h.detach(), J.detach(), batch.lengths, validate=False)
