"""What is known of a problem along a ladder of β without the sampler that is judged.

Exact results where couplings allow them: enumeration, or tree decomposition with independent exact
reads. Else long parallel tempering at each β, whose runs are kept on disk
(:mod:`qattn.quality.tempered`); its 32 independent sets of replicas are the blocks of its errors.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int8
from torch import Tensor

from qattn.ising.batch import IsingBatch
from qattn.quality.split import one_group_per_problem
from qattn.quality.tempered.reference import long_runs_of
from qattn.quality.tempered.run import NUM_SETS
from qattn.quality.tempered.stored import LongRun
from qattn.thermodynamics import Curves, curves_of_reads, thermodynamic_curves
from qattn.thermodynamics.curves.choice import exact_engine, reads_at
from qattn.thermodynamics.curves.jackknife import BLOCKS
from qattn.thermodynamics.curves.problems import Problems

Progress = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class LadderReference:
    """A problem at every β of a ladder.

    Attributes:
        kind: How it was found.
        curves: All quantities, with errors where they are not exact.
        spins: Reads of p at each β, in 23 independent blocks.
        in_equilibrium: Whether all long runs are; True of exact results.
    """

    kind: str
    curves: Curves
    spins: Int8[Tensor, "betas reads n"]
    in_equilibrium: bool = True

    @property
    def log_Z(self) -> Float[Tensor, " betas"]:
        """ln Z."""
        return self.curves.log_Z[0, 0]

    def some_reads(self, number: int) -> Int8[Tensor, "betas some n"]:
        """About so many of the reads, or all, as many of each block, from all over it."""
        by_block = self.spins.unflatten(1, (BLOCKS, -1))
        held = by_block.shape[2]
        chosen = torch.linspace(0, held - 1, min(held, -(-number // BLOCKS))).round().long()
        some: Tensor = by_block[:, :, chosen].flatten(1, 2)
        return some


@torch.no_grad()
def ladder_reference(
    problem: IsingBatch,
    betas: Float[Tensor, " betas"],
    *,
    num_reads: int,
    tempering_sweeps: int,
    seed: int,
    progress: Progress = lambda _: None,
) -> LadderReference:
    """The reference of one problem.

    Args:
        problem: One group of one query, J a tensor.
        betas: Inverse temperatures, in units that multiply the problem's own β.
        num_reads: Independent reads where an engine draws them, rounded up to a multiple of 23.
        tempering_sweeps: Sweeps of a long run at each β.
        seed: Seed of reads and runs.
        progress: Called with a line before each part of the work.
    """
    try:
        engine = exact_engine(problem)
    except ValueError:
        return _tempered(problem, betas, tempering_sweeps, seed, progress)
    progress(f"reference by {engine}")
    drawn = [
        reads_at(problem, beta, None, num_reads, seed + b)[0][0, 0]
        for b, beta in enumerate(betas.tolist())
    ]
    spins = torch.stack(drawn)
    if engine == "enumeration":
        return LadderReference(engine, thermodynamic_curves(problem, betas), spins)
    solver = Problems(problem)
    solved = [solver.solve(beta) for beta in betas.tolist()]
    capacity, error = zip(*map(solver.heat_capacity, betas.tolist()), strict=True)
    log_Z, energy = (torch.stack([getattr(s, x) for s in solved], -1) for x in ("log_Z", "energy"))
    curves = _with_log_Z(_of_reads(problem, betas, spins, log_Z), torch.zeros_like(log_Z))
    none = torch.zeros_like(curves.log_Z)
    of_capacity = {"heat_capacity": torch.stack(error, -1)[None]}
    curves = replace(
        curves,
        method=engine,
        energy=energy[None],
        entropy=(log_Z + betas * energy)[None],
        heat_capacity=torch.stack(capacity, -1)[None],
        errors={**curves.errors, "energy": none, "entropy": none, **of_capacity},
    )
    return LadderReference(engine, curves, spins)


def _tempered(
    problem: IsingBatch,
    betas: Float[Tensor, " betas"],
    num_sweeps: int,
    seed: int,
    progress: Progress,
) -> LadderReference:
    """A long run at each β."""
    h, J = (x.double() for x in problem.scaled())
    K = len(betas)
    lengths = None if problem.lengths is None else problem.lengths.expand(1, 1).repeat(K, 1)
    at_all = IsingBatch(h.repeat(K, 1, 1), J.repeat(K, 1, 1), lengths, betas)
    runs = long_runs_of(
        one_group_per_problem(at_all), torch.zeros(K, h.shape[2]), seed, num_sweeps, progress
    )
    spins = torch.stack(_in_blocks(runs))
    log_Z, error = (
        torch.tensor([[getattr(run, name)[-1] for run in runs]], dtype=torch.float64)
        for name in ("log_Z", "log_Z_error")
    )
    curves = _with_log_Z(_of_reads(problem, betas, spins, log_Z), error)
    kind = "parallel tempering"
    return LadderReference(kind, curves, spins, all(run.in_equilibrium for run in runs))


def _in_blocks(runs: list[LongRun]) -> list[Int8[Tensor, "reads n"]]:
    """Reads of as many sets as there are blocks, set after set, as many of each run."""
    by_set = [torch.from_numpy(run.reads).unflatten(0, (-1, NUM_SETS))[:, :BLOCKS] for run in runs]
    fewest = min(map(len, by_set))
    return [reads[-fewest:].transpose(0, 1).flatten(0, 1) for reads in by_set]


def _of_reads(
    problem: IsingBatch, betas: Tensor, spins: Tensor, log_Z: Float[Tensor, "one betas"]
) -> Curves:
    """Curves of reads of p, ln Z known."""
    weights = log_Z.mT[:, :, None, None].expand(-1, 1, 1, spins.shape[1])
    return curves_of_reads(problem, betas, spins[:, None, None], weights)


def _with_log_Z(curves: Curves, error: Float[Tensor, "one betas"]) -> Curves:
    """The errors of F and S with that of ln Z, which reads of p do not know."""
    error = error[None]
    errors = {"log_Z": error, "free_energy": error / curves.betas}
    of_energy = curves.betas * curves.errors["energy"]
    errors["entropy"] = (error.square() + of_energy.square()).sqrt()
    return replace(curves, errors={**curves.errors, **errors})
