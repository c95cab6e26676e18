r"""What ``benchmarks/spin_glass.py`` measures of a sampler whose ln q is known.

With w = e^(-βE)/q and a reference for ln Z, a spin: F_q - F = (ln Z - ⟨ln w⟩_q)/βn ≥ 0, which is
KL(q|p)/βn, and F_IS - F = (ln Z - ln⟨w⟩_q)/βn. From reads of p: the forward ESS 1/⟨p/q⟩_p and
KL(p|q), which see what q has lost. With weights w: the error of ⟨s s⟩ over that of as many
independent reads, as in ``qattn compare``, and the distance of P(|overlap|) from the reference's,
∫|Δ cumulative|, beside that of as many reads of the reference.
"""

import time
from dataclasses import dataclass
from functools import cached_property

import torch
from spin_glass_peers.reinforce import Sampler
from torch import Tensor

from qattn import IsingBatch, SpinSamples
from qattn.problems import named
from qattn.quality import Floor, Reference, judge, noise_floor, reference_of
from qattn.simulators.autoregressive import forward_ess, importance

AT_A_TIME = 1000
"""Reads of a draw."""

SHIFTS = 8
"""Pairs of reads for P(q): each with those 1 to SHIFTS behind it."""

SETS = {
    "sk": lambda size: f"sk:problems=1,spins={size}",
    "ea": lambda size: f"ea:problems=1,size={size},dimensions=2",
    "ea3": lambda size: f"ea:problems=1,size={size},dimensions=3",
}
"""Sherrington and Kirkpatrick's model; Edwards and Anderson's, ±1, on periodic lattices."""


@dataclass
class Problem:
    """An instance and what it is compared with.

    Args:
        name: Such as ``sk:50:1``: set, spins or side, β.
        seed: Number of the instance.
        tempering_sweeps: Sweeps of a reference by parallel tempering.
        reads_of_p: Reads of p for the forward figures.
    """

    name: str
    seed: int
    tempering_sweeps: int = 100_000
    reads_of_p: int = 10_000

    @cached_property
    def batch(self) -> IsingBatch:
        """The problem at its β."""
        kind, size, beta = self.name.split(":")
        return named(f"{SETS[kind](size)},beta={beta}", seed=self.seed)

    @property
    def size(self) -> int | None:
        """Side of a square lattice; None for other graphs."""
        kind, size, _ = self.name.split(":")
        return int(size) if kind == "ea" else None

    @property
    def beta(self) -> float:
        """The target."""
        return float(self.batch.beta)

    @cached_property
    def J(self) -> Tensor:
        """Couplings with β inside, (spins, spins)."""
        return self.batch.scaled()[1][0].float()

    @cached_property
    def reference(self) -> Reference:
        """Exact, or by long parallel tempering, which is kept on disk."""
        return reference_of(self.batch, tempering_sweeps=self.tempering_sweeps)

    @property
    def log_Z(self) -> tuple[float, float]:
        """ln Z and its standard error."""
        assert self.reference.log_Z is not None
        error = self.reference.log_Z_error
        return float(self.reference.log_Z), 0.0 if error is None else float(error)

    @cached_property
    def from_p(self) -> Tensor:
        """Reads of p as columns."""
        return self.reference.draw(self.reads_of_p, 1).spins[0, 0].T.float()

    def floor(self, num_reads: int) -> Floor:
        """Figures of as many independent reads."""
        if num_reads not in self._floors:
            self._floors[num_reads] = noise_floor(self.reference, num_reads, seed=2)
        return self._floors[num_reads]

    def __post_init__(self) -> None:
        self._floors: dict[int, Floor] = {}

    def energies(self, columns: Tensor) -> Tensor:
        """βE of columns, float64."""
        s = columns.double()
        return -(s * (self.batch.scaled()[1][0].double() @ s)).sum(0) / 2


def figures(sampler: Sampler, problem: Problem, num_reads: int, seed: int) -> dict[str, float]:
    """All figures of a sampler's reads."""
    generator = torch.Generator().manual_seed(seed)
    sampler.draw(10, generator, 1.0)  # what is made once
    start = time.process_time()
    sizes = [min(AT_A_TIME, num_reads - done) for done in range(0, num_reads, AT_A_TIME)]
    drawn = [sampler.draw(size, generator, 1.0) for size in sizes]
    seconds = (time.process_time() - start) / num_reads
    columns, log_q = torch.cat([s for s, _ in drawn], 1), torch.cat([q for _, q in drawn])
    energies = problem.energies(columns)
    found = importance(log_q, energies)
    (log_Z, error), n = problem.log_Z, problem.batch.num_spins
    per_spin = 1 / (problem.beta * n)
    with torch.no_grad():
        parts = [sampler.log_q(part, 1.0) for part in problem.from_p.split(AT_A_TIME, 1)]
    of_p, of_p_energies = torch.cat(parts), problem.energies(problem.from_p)
    lost = -of_p_energies - log_Z - of_p  # ln p/q
    log_w = -energies - log_q
    weights = (log_w - log_w.logsumexp(0)).exp() * num_reads
    ess = float(found.ess)
    return {
        "F_q": (log_Z - float(found.log_Z_bound)) * per_spin,
        "F_q_error": (float(found.log_Z_bound_error) ** 2 + error**2) ** 0.5 * per_spin,
        "F_IS": (log_Z - float(found.log_Z)) * per_spin,
        "F_IS_error": (float(found.log_Z_error) ** 2 + error**2) ** 0.5 * per_spin,
        "KL": (log_Z - float(found.log_Z_bound)) / n,
        "ESS": ess,
        "forward_ESS": float(forward_ess(of_p, of_p_energies, torch.tensor(log_Z))),
        "KL_forward": float(lost.mean()),
        "KL_forward_error": float(lost.std()) / len(lost) ** 0.5,
        "seconds_a_read": seconds,
        "seconds_a_read_over_ESS": seconds / ess,
        **quality(columns.T.to(torch.int8), weights, problem),
    }


def seconds_a_read(sampler: Sampler) -> float:
    """CPU time of a read, from a draw that takes a second or is as large as draws get."""
    num_reads, generator = 16, torch.Generator().manual_seed(0)
    while True:
        start = time.process_time()
        sampler.draw(num_reads, generator, 1.0)
        seconds = time.process_time() - start
        if seconds > 1 or num_reads >= AT_A_TIME:
            return seconds / num_reads
        num_reads = min(AT_A_TIME, num_reads * 4)


def quality(spins: Tensor, weights: Tensor | None, problem: Problem) -> dict[str, float]:
    """Errors of ⟨s s⟩ and of P(q), of reads (reads, spins)."""
    shaped = None if weights is None else weights[None, None]
    num_reads = len(spins)
    score = judge(
        SpinSamples(spins[None, None].contiguous(), shaped),
        problem.batch,
        reference=problem.reference,
        floor=problem.floor(num_reads),
    ).scores["pair_rms"]
    wanted = cumulative_overlaps(problem.from_p.T)
    others = [problem.reference.draw(num_reads, seed).spins[0, 0] for seed in range(3, 8)]
    step = 2 / spins.shape[1]
    floors = [float((cumulative_overlaps(s) - wanted).abs().sum()) * step for s in others]
    found = cumulative_overlaps(spins, weights)
    return {
        "pair_ratio": score.ratio,
        "pair_ratio_error": score.ratio_error,
        "overlap_distance": float((found - wanted).abs().sum()) * step,
        "overlap_floor": sum(floors) / len(floors),
    }


def cumulative_overlaps(spins: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cumulative distribution of |q| = |Σ_j s_j s'_j|/n over pairs of reads, at all its values."""
    reads, n = spins.shape
    s = spins.float()
    w = torch.ones(reads, dtype=torch.float64) if weights is None else weights
    density = torch.zeros(n + 1, dtype=torch.float64)
    for shift in range(1, min(SHIFTS, reads - 1) + 1):
        overlap = (s * s.roll(-shift, 0)).sum(1).abs().round().long()
        density.index_add_(0, overlap, w * w.roll(-shift, 0))
    density = density[n % 2 :: 2]  # all values have the parity of n
    return density.cumsum(0) / density.sum()
