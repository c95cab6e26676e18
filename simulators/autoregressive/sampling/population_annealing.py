r"""Population annealing that starts from q where q is good: for problems where it is not.

At an inverse temperature λ_0 β, λ_0 < 1, the draws of q have even weights. These weights take them
to p at λ_0 β, and

.. math:: w_k = e^{-(\lambda_{k+1} - \lambda_k) \beta E}

from there to the target, λ = 1, in steps: at each the population is resampled by its weights, and
swept at the new temperature. The product of the mean weights, ⟨e^{-λ_0 βE}/q⟩ Π_k ⟨w_k⟩, estimates
Z without bias, whatever the steps and however few the sweeps (Machta, Phys. Rev. E 82, 026704
(2010)); for that the λ come from a run of their own. There are several independent populations:
their Z tell the error, and are the weights of their reads, so that these are of p as a whole.

Reads with a common ancestor are not independent. What is reported as ESS counts each family of
them as one read: it is a lower bound (Wang, Machta and Katzgraber, Phys. Rev. E 92, 063307 (2015)).
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int8
from torch import Tensor

from qattn.chains import Chains
from qattn.ising.batch import IsingBatch
from qattn.simulators.autoregressive.importance import effective_share, importance
from qattn.simulators.autoregressive.sampling.pilot import PARAMAGNET, largest_eigenvalue
from qattn.simulators.autoregressive.sampling.sampler import Draws, Sampler, at, selected
from qattn.simulators.autoregressive.sampling.weights import resampled
from qattn.simulators.autoregressive.settings import NetSettings

STARTS = (1.0, 0.75, 0.5, 0.25)
"""λ_0 that are tried in turn, in units of where the paramagnet ends, beyond which q may have lost
states unseen (:mod:`qattn.simulators.autoregressive.sampling.lost_states`); then 0, where q is p.
"""

START_ESS = 0.5
"""Least ESS of q at λ_0."""

STEP_ESS = 0.8
"""ESS of the weights of a step."""

PILOT_READS = 128
"""Population that finds the λ."""

POPULATIONS = (8, 16)
"""Most populations, and least number of reads of each."""

BISECTIONS = 30
"""Halvings in search of a step, ..."""

LEAST_STEP = 1e-3
"""... which is at least so large."""


@dataclass(eq=False)
class Annealed:
    """Reads of problems at the target, each a group of one query.

    Attributes:
        spins: The reads.
        energies: Their βE.
        log_weights: Ln of their weights: ln Z of their population.
        log_Z: The estimate of ln Z of each problem, ...
        log_Z_error: ... and its standard error; nan of a single population.
        ess: Share of the reads that are independent, at least.
        lowest: λ_0.
        temperatures: Number of λ.
    """

    spins: Int8[Tensor, "g 1 reads n"]
    energies: Float[Tensor, "g 1 reads"]
    log_weights: Float[Tensor, "g 1 reads"]
    log_Z: Float[Tensor, " g"]
    log_Z_error: Float[Tensor, " g"]
    ess: Float[Tensor, " g"]
    lowest: Float[Tensor, " g"]
    temperatures: int


@torch.no_grad()
def anneal(
    sampler: Sampler,
    batch: IsingBatch,
    num_reads: int,
    generator: torch.Generator,
    *,
    sweeps: int,
    settings: list[NetSettings],
) -> Annealed:
    """Anneal populations from q to the target.

    Args:
        sampler: Where q comes from.
        batch: The problems, each a group of one query.
        num_reads: Reads of each problem.
        generator: Source of randomness, on the device of the batch.
        sweeps: Gibbs sweeps after each step.
        settings: What the net of each group is made of.
    """
    lowest = _lowest(sampler, batch, generator, settings)
    pilot = _Populations(sampler, at(batch, lowest), PILOT_READS, 1, generator, settings)
    ladder = [lowest]
    while bool((ladder[-1] < 1).any()):
        ladder.append(_next(pilot.energies_at_target(batch), ladder[-1]))
        pilot.step(batch, ladder[-2], ladder[-1], sweeps)
    populations = max(1, min(POPULATIONS[0], num_reads // POPULATIONS[1]))
    size = math.ceil(num_reads / populations)
    run = _Populations(sampler, at(batch, lowest), size, populations, generator, settings)
    for before, after in pairwise(ladder):
        run.step(batch, before, after, sweeps)
    return run.result(batch, num_reads, lowest, len(ladder))


def _lowest(
    sampler: Sampler, batch: IsingBatch, generator: torch.Generator, settings: list[NetSettings]
) -> Float[Tensor, " g"]:
    """λ_0 of each problem: the largest of :data:`STARTS` with a good ESS."""
    end = (PARAMAGNET / largest_eigenvalue(batch, generator)).clamp_max(1)
    found = torch.zeros_like(end)
    tried = torch.arange(batch.num_groups)
    for share in STARTS:
        scaled = at(selected(batch, tried), share * end[tried])
        draws = sampler.draw(scaled, PILOT_READS, generator, [settings[g] for g in tried])
        good = (importance(draws.log_q, draws.energies).ess[:, 0] >= START_ESS).cpu()
        found[tried[good]] = share * end[tried[good]]
        tried = tried[~good]
        if not len(tried):
            break
    return found


def _next(energies: Float[Tensor, "g reads"], share: Float[Tensor, " g"]) -> Float[Tensor, " g"]:
    """The next λ of each problem: as far as the ESS of the step's weights allows."""

    def ess(step: Tensor) -> Tensor:
        return effective_share(-step[:, None] * energies)

    low, high = torch.zeros_like(share), 1 - share
    far = ess(high) >= STEP_ESS
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        enough = ess(middle) >= STEP_ESS
        low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
    share = (share + low.clamp_min(LEAST_STEP)).clamp_max(1)
    return torch.where(far, torch.ones_like(share), share)


class _Populations:
    """Independent populations of each problem, side by side."""

    def __init__(
        self,
        sampler: Sampler,
        batch: IsingBatch,
        size: int,
        number: int,
        generator: torch.Generator,
        settings: list[NetSettings],
    ) -> None:
        self.shape = (batch.num_groups, number, size)
        self.generator = generator
        draws: Draws = sampler.draw(batch, number * size, generator, settings)
        self.spins = draws.spins
        self.ancestors = torch.arange(number * size, device=batch.h.device).expand(
            batch.num_groups, -1
        )
        self.log_Z = torch.zeros(self.shape[:2], dtype=torch.float64, device=batch.h.device)
        self._resample(draws.log_weights[:, 0])

    def _resample(self, log_w: Float[Tensor, "g reads"]) -> None:
        """Draw each population anew by weights, whose mean is a factor of its Z."""
        log_w = log_w.view(self.shape)
        self.log_Z += log_w.logsumexp(2) - math.log(self.shape[2])
        first = torch.arange(self.shape[1], device=log_w.device)[:, None] * self.shape[2]
        chosen = (resampled(log_w, self.generator) + first).flatten(1)
        self.ancestors = self.ancestors.gather(1, chosen)
        self.spins = self.spins.gather(2, chosen[:, None, :, None].expand_as(self.spins))

    def energies_at_target(self, batch: IsingBatch) -> Float[Tensor, "g reads"]:
        """βE of all reads, in float64."""
        h, J = batch.scaled()
        double = IsingBatch(h.double(), J.double(), batch.lengths, validate=False)
        return double.energies(self.spins)[:, 0]

    def step(
        self,
        batch: IsingBatch,
        before: Float[Tensor, " g"],
        after: Float[Tensor, " g"],
        sweeps: int,
    ) -> None:
        """From one λ to the next."""
        self._resample(-(after - before)[:, None] * self.energies_at_target(batch))
        chains = Chains(at(batch, after), self.spins)
        chains.sweep(sweeps, self.generator)
        self.spins = chains.spins

    def result(
        self, batch: IsingBatch, num_reads: int, lowest: Tensor, temperatures: int
    ) -> Annealed:
        """The reads; the last population lacks those that are too many."""
        _, number, size = self.shape
        log_Z = self.log_Z.logsumexp(1) - math.log(number)
        relative = (self.log_Z - log_Z[:, None]).exp()
        error = relative.std(1) / number**0.5 if number > 1 else torch.full_like(log_Z, torch.nan)
        log_w = self.log_Z.unsqueeze(2).expand(self.shape).flatten(1)
        weights = (log_w - log_Z[:, None]).exp()
        families = torch.zeros_like(weights).scatter_add(1, self.ancestors, weights)
        ess = families.sum(1).square() / families.square().sum(1) / (number * size)
        return Annealed(
            self.spins[:, :, :num_reads],
            self.energies_at_target(batch)[:, None, :num_reads],
            log_w[:, None, :num_reads],
            log_Z,
            error,
            ess,
            lowest,
            temperatures,
        )
