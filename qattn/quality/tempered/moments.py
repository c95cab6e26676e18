r"""Moments and gradients from the reads of a long run, with error bars, as the reads come.

With gradients g that arrive at ⟨s⟩ and f = g·s,

.. math::
    \frac{\partial (g \cdot \langle s \rangle)}{\partial h_j} = \mathrm{Cov}(f, s_j), \qquad
    \frac{\partial (g \cdot \langle s \rangle)}{\partial J_{jk}} = \mathrm{Cov}(f, s_j s_k).

Error bars are those of the differences between independent sets of replicas: they hold whatever
the correlations in time are.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int8
from torch import Tensor


class Estimate(NamedTuple):
    """A value of each problem and its standard error."""

    value: Float[Tensor, "problems ..."]
    error: Float[Tensor, "problems ..."]


class Moments:
    """Reads of the target, set by set: none is stored but those that are to be drawn from.

    Args:
        direction: Gradients g that arrive at ⟨s⟩.
        num_sets: Number R ≥ 2 of independent sets of replicas.
        kept_reads: About how many reads of each problem are kept, spread over the whole run.
    """

    def __init__(
        self, direction: Float[Tensor, "problems n"], num_sets: int, kept_reads: int
    ) -> None:
        P, n = direction.shape
        self.direction = direction.float()
        self.num_sets = num_sets
        self.num_sweeps = 0
        self.kept_reads = kept_reads
        self._every = 1
        self._kept: list[Int8[Tensor, "problems n sets"]] = []
        # Of each set: Σ s, Σ s s and Σ f s s.
        self._first = torch.zeros(P, num_sets, n, dtype=torch.float64)
        self._second = torch.zeros(P, num_sets, n, n, dtype=torch.float64)
        self._third = torch.zeros(P, num_sets, n, n, dtype=torch.float64)

    def add(self, spins: Int8[Tensor, "sweeps problems n sets"]) -> None:
        """Add the reads of a block of sweeps, one of each set a sweep."""
        for sweep, reads in enumerate(spins, self.num_sweeps):
            if sweep % self._every == 0:
                self._kept.append(reads)
        self.num_sweeps += len(spins)
        if len(self._kept) * self.num_sets > 2 * self.kept_reads:
            self._kept, self._every = self._kept[::2], 2 * self._every
        s = spins.permute(1, 3, 2, 0).float()  # problems, sets, n, sweeps
        f = self.direction[:, None, None] @ s
        self._first += s.sum(-1)
        self._second += s @ s.mT
        self._third += (f * s) @ s.mT

    @property
    def reads(self) -> Int8[Tensor, "problems reads n"]:
        """Reads from all over the run."""
        return torch.stack(self._kept, 1).permute(0, 1, 3, 2).flatten(1, 2)

    def mean(self) -> Estimate:
        """⟨s_j⟩."""
        return _over_sets(self._first / self.num_sweeps)

    def pairs(self) -> Estimate:
        """⟨s_j s_k⟩, 1 on the diagonal."""
        return _over_sets(self._second / self.num_sweeps)

    def two_group_statistic(self, first: Bool[Tensor, " sets"]) -> Float[Tensor, " problems"]:
        r"""How far two groups of sets differ, beside how far sets of a group do.

        .. math::
            z^2 = \frac{\sum_j (m^+_j - m^-_j)^2}{\sum_j \sigma_j^2 (1/R^+ + 1/R^-)},

        with σ_j the standard deviation of ⟨s_j⟩ over the sets of a group: about 1 in equilibrium.
        It is 0 where nothing varies.
        """
        groups = [self._first[:, chosen] / self.num_sweeps for chosen in (first, ~first)]
        apart = (groups[0].mean(1) - groups[1].mean(1)).square().sum(-1)
        squares = sum((x - x.mean(1, keepdim=True)).square().sum((1, 2)) for x in groups)
        variance = squares / (self.num_sets - 2)
        noise = variance * sum(1 / x.shape[1] for x in groups)
        return torch.where(apart > 0, apart / noise, 0.0)

    def gradients(self) -> tuple[Estimate, Estimate]:
        """Derivatives of g·⟨s⟩ in h and in the two entries of each J, half of that above each."""
        first, second, third = (
            x / self.num_sweeps for x in (self._first, self._second, self._third)
        )
        g = self.direction.double()
        # Of each set the mean of (f - ⟨f⟩) s and of (f - ⟨f⟩) s s, with ⟨f⟩ of all sets.
        f = (first.mean(1) * g).sum(-1)[:, None, None]
        of_h = (g[:, None, None] @ second).squeeze(2) - f * first
        of_J = (third - f.unsqueeze(-1) * second) / 2
        of_J = of_J - torch.diag_embed(of_J.diagonal(dim1=2, dim2=3))
        return _over_sets(of_h), _over_sets(of_J)


def _over_sets(values: Float[Tensor, "problems sets ..."]) -> Estimate:
    """The mean over the sets, and its standard error."""
    return Estimate(values.mean(1), values.std(1) / math.sqrt(values.shape[1]))
