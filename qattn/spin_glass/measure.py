"""A ladder of β: weighted reads of a sampler beside the reference of each problem."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int8
from torch import Tensor

from qattn.ising.batch import IsingBatch
from qattn.problems.by_name import with_strength
from qattn.simulators.autoregressive import AutoregressiveNet
from qattn.simulators.autoregressive.models import as_columns, as_reads
from qattn.simulators.autoregressive.sampling.sampler import as_groups, selected
from qattn.spin_glass.judged import judge
from qattn.spin_glass.nets import Nets
from qattn.spin_glass.reference import LadderReference, ladder_reference
from qattn.spin_glass.results import Ladder, Overlap, Section
from qattn.thermodynamics import (
    OverlapDistribution,
    curves_of_reads,
    overlap_distribution,
    overlaps_of_reads,
)
from qattn.thermodynamics.curves.jackknife import whole_blocks
from qattn.thermodynamics.temperatures import as_betas

NUM_READS = 2000
"""Reads of each problem at each β, of the sampler and of the reference."""

SPINS_AT_A_TIME = 1 << 19
"""Spins that a net draws or rescores at a time."""

Progress = Callable[[str], None]


def spin_glass(
    name: str,
    batch: IsingBatch,
    betas: Float[Tensor, " betas"] | Sequence[float],
    nets: Nets,
    *,
    sampler: str = "",
    overlap_betas: Sequence[float] | None = None,
    num_reads: int = NUM_READS,
    tempering_sweeps: int = 10_000,
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> Section:
    """Judge an autoregressive sampler along a ladder of temperatures.

    Args:
        name: Name of the set of problems.
        batch: The problems; J is made dense.
        betas: Inverse temperatures, ascending, in units that multiply the batch's own β.
        nets: The sampler at each β (:mod:`qattn.spin_glass.nets`).
        sampler: What it is, in words.
        overlap_betas: Where P(q) is compared, each at the nearest β of the ladder; None for the
            first, the middle and the last one.
        num_reads: Reads of the sampler and of the reference, rounded up to a multiple of 23.
        tempering_sweeps: Sweeps of the reference at each β, where nothing is exact.
        seed: Seed of reads and references.
        progress: Called with a line before each part of the work.

    Raises:
        ValueError: `betas` do not ascend from above 0, `num_reads` is below 230, or no query has
            spins.
    """
    betas = as_betas(betas)
    if not float(betas[0]) > 0:
        raise ValueError(f"Argument `betas` must be positive, but is {betas.tolist()}.")
    if num_reads < 230:
        raise ValueError(f"Argument `num_reads` must be at least 230, but is {num_reads}.")
    if overlap_betas is None:
        overlap_betas = betas[[0, len(betas) // 2, -1]].tolist()
    near = {int((betas - beta).abs().argmin()) for beta in overlap_betas}
    problems = split(batch)
    generator = torch.Generator().manual_seed(seed)
    ladders = []
    for p in range(problems.num_groups):
        problem = selected(problems, torch.tensor([p]))

        def say(text: str, which: str = f"{name}, problem {p + 1} of {len(problems.h)}") -> None:
            progress(f"{which}: {text}")

        reference = ladder_reference(
            problem,
            betas,
            num_reads=num_reads,
            tempering_sweeps=tempering_sweeps,
            seed=seed,
            progress=say,
        )
        ladders.append(
            _ladder(problem, betas, nets, reference, sorted(near), num_reads, generator, say)
        )
    return Section(name, sampler, betas, tuple(ladders))


def split(batch: IsingBatch) -> IsingBatch:
    """Every query with spins as a group of its own, in float64, J dense; β stays what it is.

    Raises:
        ValueError: No query has spins.
    """
    there = torch.from_numpy(batch.num_active > 0).nonzero()
    if not len(there):
        raise ValueError("Argument `batch` must hold a query with spins, but holds none.")
    dense = batch.dense()
    h, J = dense.h.detach().double(), dense.matrix.detach().double()
    return as_groups(IsingBatch(h, J, batch.lengths, batch.beta, validate=False), there)


@torch.no_grad()
def _ladder(
    problem: IsingBatch,
    betas: Float[Tensor, " betas"],
    nets: Nets,
    reference: LadderReference,
    with_overlaps: list[int],
    num_reads: int,
    generator: torch.Generator,
    progress: Progress,
) -> Ladder:
    """One problem."""
    of_p = reference.some_reads(num_reads)
    spins, log_weights, judged = [], [], []
    for b, net in enumerate(nets(problem, betas.tolist())):
        progress(f"β = {float(betas[b]):.4g}")
        models = with_strength(problem, float(betas[b]))
        drawn, of_q = draw(net, models, whole_blocks(num_reads), generator)
        spins.append(drawn)
        log_weights.append(of_q)
        judged.append(judge(of_q, rescore(net, models, of_p[b]), float(reference.log_Z[b])))
    table = torch.stack(log_weights)[:, None, None]
    curves = curves_of_reads(problem, betas, torch.stack(spins)[:, None, None], table)
    overlaps = {}
    for b in with_overlaps:
        weights = (log_weights[b] - log_weights[b].max()).exp()
        by_sampler = overlaps_of_reads(
            spins[b][None, None], weights[None, None], problem.num_active
        )
        exactly = _overlap(problem, float(betas[b]), reference, b)
        overlaps[float(betas[b])] = Overlap.between(by_sampler, exactly)
    n = int(problem.num_active[0, 0])
    kind, settled = reference.kind, reference.in_equilibrium
    return Ladder(n, curves, reference.curves, kind, settled, tuple(judged), overlaps)


def _overlap(
    problem: IsingBatch, beta: float, reference: LadderReference, b: int
) -> OverlapDistribution:
    """P(q) of the reference."""
    if reference.kind == "enumeration":
        return overlap_distribution(problem, beta=beta)
    reads = reference.spins[b][None, None]
    return overlaps_of_reads(reads, torch.ones(reads.shape[:3]), problem.num_active)


def draw(
    net: AutoregressiveNet, models: IsingBatch, num_reads: int, generator: torch.Generator
) -> tuple[Int8[Tensor, "reads n"], Float[Tensor, " reads"]]:
    """Reads of one problem, and ln w = -βE - ln q of each."""
    arranged, found = net.arranged(models), []
    for part in torch.arange(num_reads).split(max(1, SPINS_AT_A_TIME // models.num_spins)):
        columns, log_q = net.draw(arranged, len(part), generator)
        reads = as_reads(columns, net.plan, 1)[0, 0]
        found.append((reads, -arranged.energies(columns)[0] - log_q[0]))
    spins, log_weights = zip(*found, strict=True)
    return torch.cat(spins), torch.cat(log_weights)


@torch.no_grad()
def rescore(
    net: AutoregressiveNet, models: IsingBatch, spins: Int8[Tensor, "reads n"]
) -> Float[Tensor, " reads"]:
    """ln w = -βE - ln q of given states of one problem."""
    arranged, found = net.arranged(models), []
    for part in spins.split(max(1, SPINS_AT_A_TIME // models.num_spins)):
        columns = as_columns(part[None, None], net.plan, arranged.h.dtype)
        log_q = net.log_q(arranged, columns)[0]
        found.append(-arranged.energies(columns)[0] - log_q)
    return torch.cat(found)
