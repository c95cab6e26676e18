r"""Curves of many spins by the exact engine that their couplings have.

ln Z and, by differentiation, U = -∂ ln Z/∂β and ⟨m⟩ are exact. The heat capacity is a difference of
U in float64: with D(δ) = (U(β + δ) - U(β - δ))/2δ and δ = β/1024,

.. math:: C \approx -\beta^2\, \frac{4 D(\delta) - D(2\delta)}{3},

whose error is below β²|D(δ) - D(2δ)|/3, that of D(δ) alone, which is reported. ⟨s_j s_k⟩ comes from
the engine up to :data:`PAIRED_SPINS` spins, the distribution of m from that of couplings that are a
function of m (:class:`qattn.couplings.Cardinality`). The rest is from independent exact reads.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from qattn import exact
from qattn.couplings import Cardinality, Couplings
from qattn.ising.batch import IsingBatch
from qattn.thermodynamics.curves.jackknife import (
    BLOCKS,
    kept_blocks,
    of_one_state,
    of_several_states,
    whole_blocks,
)
from qattn.thermodynamics.curves.quantities import Moments

PAIRED_SPINS = 128
"""Spins up to which all ⟨s_j s_k⟩ are computed: that takes n backward passes."""

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
        self.log_Z = exact.log_partition
        self.sample = exact.sample
        if isinstance(self.J, Tensor):
            self.log_Z = lambda models: exact.tree.moments(models).log_Z
            self.sample = exact.tree.sample

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

    def pairs(self, beta: float) -> Float[Tensor, "problems n n"]:
        """⟨s_j s_k⟩ - ⟨s_j⟩⟨s_k⟩."""
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


@torch.no_grad()
def moments(
    batch: IsingBatch, betas: Float[Tensor, " betas"], num_reads: int, seed: int | None
) -> tuple[Moments, set[str], Tensor]:
    """Averages, which of them are exact, and the error of the heat capacity.

    Returns:
        Averages of all replicates, (replicates, groups, queries, betas), nan where they need reads
        and there are none; the names of those that are exact; and the error of C, (groups, queries,
        betas).
    """
    problems = Problems(batch)
    G, Q = batch.h.shape[:2]
    lengths = problems.lengths.squeeze(1).double().clamp_min(1)
    known = {"log_Z", "energy", "energy_variance", "m"}
    if batch.num_spins <= PAIRED_SPINS:
        known.add("spin_glass_susceptibility")
    if isinstance(batch.J, Cardinality):
        known |= {"abs_m", "m2", "m4"}
    values = torch.full((len(Moments._fields), BLOCKS + 1, G * Q, len(betas)), torch.nan).double()
    errors = torch.zeros(G * Q, len(betas), dtype=torch.float64)
    for b, beta in enumerate(betas.tolist()):
        if num_reads:
            models = problems.at(beta)
            reads = problems.sample(
                models, whole_blocks(num_reads), None if seed is None else seed + b
            ).spins.squeeze(1)
            for p, spins in enumerate(reads):
                found = _from_reads(spins.cpu(), int(problems.lengths[p]))
                for name, value in found.items():
                    values[Moments._fields.index(name), :, p, b] = value
        solved = problems.solve(beta)
        C, error = problems.heat_capacity(beta)
        errors[:, b] = error.cpu()
        exactly = {
            "log_Z": solved.log_Z,
            "energy": solved.energy,
            "energy_variance": C / beta**2 if beta else torch.zeros_like(C),
            "m": solved.mean.sum(1) / lengths.to(solved.mean),
        }
        if "spin_glass_susceptibility" in known:
            exactly["spin_glass_susceptibility"] = problems.pairs(beta).square().sum(
                (1, 2)
            ) / lengths.to(C)
        if solved.counts is not None:
            exactly |= _of_counts(solved.counts, lengths.to(C))
        for name, value in exactly.items():
            values[Moments._fields.index(name), :, :, b] = value.cpu()
    shaped = Moments(*values.unflatten(2, (G, Q)))
    return shaped, known, errors.unflatten(0, (G, Q))


def _from_reads(spins: Tensor, n: int) -> dict[str, Tensor]:
    """Averages that no engine gives, of all replicates."""
    L = len(spins) // BLOCKS
    kept = kept_blocks()[:, :, None].expand(-1, -1, L)
    weights = (kept / kept.sum((1, 2), keepdim=True)).flatten(1)
    _, _, _, abs_m, m2, m4 = of_one_state(spins, torch.zeros(len(spins)).double(), weights, n)
    glass, q2, q4 = of_several_states(spins.unflatten(0, (BLOCKS, L)), kept, n)
    names = ("abs_m", "m2", "m4", "spin_glass_susceptibility", "q2", "q4")
    return dict(zip(names, (abs_m, m2, m4, glass, q2, q4), strict=True))


def _of_counts(
    p: Float[Tensor, "problems counts"], lengths: Float[Tensor, " problems"]
) -> dict[str, Tensor]:
    """Averages of m = 2c/n - 1 over the distribution of the count c."""
    m = 2 * torch.arange(p.shape[1]).to(p) / lengths[:, None] - 1
    moments = ((p * m.abs()), (p * m**2), (p * m**4))
    return dict(zip(("abs_m", "m2", "m4"), (x.sum(1) for x in moments), strict=True))
