r"""Every query of a batch as a model of its own that an exact engine solves at any β.

ln Z and, by differentiation, U = -∂ ln Z/∂β and ⟨s_j⟩ are exact. The heat capacity is a difference
of U in float64: with D(δ) = (U(β + δ) - U(β - δ))/2δ and δ = β/1024,

.. math:: C \approx -\beta^2\, \frac{4 D(\delta) - D(2\delta)}{3},

whose error is below β²|D(δ) - D(2δ)|/3, that of D(δ) alone, which is reported.
"""

from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from qattn import exact
from qattn.couplings import Cardinality, Couplings
from qattn.ising.batch import IsingBatch

STEP = 1 / 1024
"""δ/β of the differences."""


class Solved(NamedTuple):
    """What an engine says at one β: each problem is a group of one query.

    Attributes:
        log_Z: ln Z.
        energy: U.
        mean: ⟨s_j⟩.
        counts: The probabilities of 0 … K spins up, for Cardinality; else None.
    """

    log_Z: Float[Tensor, " problems"]
    energy: Float[Tensor, " problems"]
    mean: Float[Tensor, "problems n"]
    counts: Float[Tensor, "problems counts"] | None


class Problems:
    """Every query of a batch as a model of its own, in float64."""

    def __init__(self, batch: IsingBatch) -> None:
        h, J = batch.scaled_structure()
        group = torch.from_numpy(batch.group_of_problem)
        self.h = h.detach().double().flatten(0, 1).unsqueeze(1)
        self.J = J.detach().to(torch.float64)[group]
        self.lengths = torch.from_numpy(batch.num_active.copy()).reshape(-1, 1)
        self.sample = exact.tree.sample if isinstance(self.J, Tensor) else exact.sample

    @cached_property
    def alike(self) -> bool:
        """Whether all spins of each problem are in the same field."""
        there = torch.arange(self.h.shape[2]) < self.lengths
        return bool(((self.h.cpu() == self.h[..., :1].cpu()).squeeze(1) | ~there).all())

    def at(self, beta: float) -> IsingBatch:
        """The models at β, as ones at β = 1."""
        b = torch.full((len(self.h),), beta, dtype=torch.float64, device=self.h.device)
        return IsingBatch(b[:, None, None] * self.h, self._scaled(b), self.lengths, validate=False)

    def _scaled(self, b: Float[Tensor, " problems"]) -> Tensor | Couplings:
        """βJ; a count that is forbidden is so at β = 0 too."""
        if isinstance(self.J, Tensor):
            return b[:, None, None] * self.J
        if not isinstance(self.J, Cardinality):
            return self.J.scaled(b)
        forbidden = self.J.values.isinf()
        log_phi = b[:, None] * self.J.values.masked_fill(forbidden, 0)
        return self.J.with_values(log_phi.masked_fill(forbidden, -torch.inf))

    def log_Z(self, models: IsingBatch) -> Float[Tensor, "problems one"]:
        """Ln Z of models with the couplings' structure."""
        if isinstance(self.J, Tensor):
            return exact.tree.moments(models).log_Z
        return exact.log_partition(models)

    def solve(self, beta: float) -> Solved:
        """ln Z and its derivatives."""
        with torch.enable_grad():
            b = torch.full((len(self.h),), beta, dtype=torch.float64, device=self.h.device)
            b.requires_grad_()
            h, J = b[:, None, None] * self.h, self._scaled(b)
            log_Z = self.log_Z(IsingBatch(h, J, self.lengths, validate=False)).squeeze(1)
            wanted = [b, h, J.values] if isinstance(J, Cardinality) else [b, h]
            by_beta, mean, *counts = torch.autograd.grad(log_Z.sum(), wanted)
        if beta == 0 and not isinstance(J, Cardinality):
            by_beta = torch.zeros_like(by_beta)  # of free spins; √β of LowRank has no derivative
        return Solved(log_Z.detach(), -by_beta, mean.squeeze(1), counts[0] if counts else None)

    def heat_capacity(self, beta: float) -> tuple[Tensor, Tensor]:
        """C, and what its error is below."""
        step = beta * STEP
        if step == 0:
            return torch.zeros(len(self.h)).double(), torch.zeros(len(self.h)).double()
        low2, low, high, high2 = (self.solve(beta + k * step).energy for k in (-2, -1, 1, 2))
        near, far = (high - low) / (2 * step), (high2 - low2) / (4 * step)
        return -(beta**2) * (4 * near - far) / 3, beta**2 * (near - far).abs() / 3

    def covariances(self, beta: float) -> Float[Tensor, "problems n n"]:
        """⟨s_j s_k⟩ - ⟨s_j⟩⟨s_k⟩, by n backward passes."""
        models = self.at(beta)
        if not isinstance(self.J, Tensor):
            mean = exact.mean_spins(models).squeeze(1)
            return exact.pair_correlations(models).squeeze(1) - mean[:, :, None] * mean[:, None]
        # The derivative of ⟨s_j⟩ in h_k, one j after the other.
        with torch.enable_grad():
            h = models.h.requires_grad_()
            mean = exact.tree.moments(models).mean.squeeze(1)
            rows = [
                torch.autograd.grad(one.sum(), h, retain_graph=True)[0].squeeze(1)
                for one in mean.unbind(1)
            ]
        return torch.stack(rows, 1)
