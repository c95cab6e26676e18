"""References of problems beyond enumeration that an engine solves, and draws from, exactly.

Sparse ones are solved by tree decomposition, couplings with a structure by its engine. Moments,
gradients and log Z are exact; the distribution of the energy is that of many exact reads.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from qattn import exact
from qattn.couplings import Banded, Couplings
from qattn.exact import memory, tree
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples
from qattn.quality.energy import distribution_of
from qattn.quality.reference import Kind, Reference, present_pairs
from qattn.quality.split import part_of

ENERGY_READS = 100_000
"""Exact reads of each problem that stand for the distribution of its energy, which is then off by
1/√ENERGY_READS of its standard deviation, a tenth of the noise of 1,000 reads."""

POOL_READS = 100_000
"""Further exact reads of each problem, from which those of the noise floor are taken."""

POOL_BYTES = 1 << 29
"""Bytes of the pool of all problems; many large ones get fewer reads."""

ENERGY_SPINS = 1 << 22
"""Spins of reads whose energies are summed at a time, in float64."""

Progress = Callable[[str], None]

STRUCTURED: dict[str, Kind] = {
    "banded": "transfer matrices",
    "low_rank": "quadrature",
    "cardinality": "recursion over counts",
    "block": "enumeration of blocks",
}
"""How the exact engine of each structure of J works."""


class Solution(NamedTuple):
    """Exact values of one problem: moments, derivatives of g·⟨s⟩, and log Z."""

    mean: Float[Tensor, "1 n"]
    pairs: Float[Tensor, "1 n n"]
    of_h: Float[Tensor, "1 n"]
    of_J: Tensor
    log_Z: Float[Tensor, " 1"]


class _Engine(NamedTuple):
    name: Kind
    solve: Callable[[IsingBatch, Tensor], Solution]
    sample: Callable[[IsingBatch, int, int | None], SpinSamples]


def is_sparse(problems: IsingBatch, max_width: int) -> bool:
    """Whether each problem can be summed, and differentiated, by tree decomposition."""
    try:
        if tree.treewidth(problems) > max_width:
            return False
        needs = [
            tree.required_bytes(part_of(problems, slice(p, p + 1)), is_differentiated=True)
            for p in range(problems.num_groups)
        ]
    except ValueError:  # too wide
        return False
    return max(needs) <= memory.MEMORY_LIMIT


def tree_reference(
    problems: IsingBatch,
    direction: Float[Tensor, "problems n"],
    seed: int,
    progress: Progress = lambda _: None,
) -> Reference:
    """The reference by tree decomposition: moments and gradients of coupled pairs.

    Args:
        problems: The problems, one query a group, β = 1, float64, J a matrix.
        direction: Gradients that arrive at ⟨s⟩.
        seed: Seed of the reads.
        progress: Called with a line before each problem.

    Raises:
        ValueError: The couplings are too dense.
        MemoryError: One problem exceeds ``qattn.exact.memory.MEMORY_LIMIT``.
    """

    def solve(piece: IsingBatch, direction: Tensor) -> Solution:
        h, J = piece.h.clone().requires_grad_(), piece.matrix.clone().requires_grad_()
        found = tree.moments(IsingBatch(h, J, piece.lengths, validate=False))
        value = (found.mean[:, 0] * direction).sum()
        of_h, of_J = torch.autograd.grad(value, (h, J), materialize_grads=True)
        return Solution(found.mean[:, 0], found.pairs[:, 0], of_h[:, 0], of_J, found.log_Z[:, 0])

    known = (problems.matrix != 0) & present_pairs(problems)
    engine = _Engine("tree decomposition", solve, tree.sample)
    return _reference(engine, problems, known, direction, seed, progress)


def structured_reference(
    problems: IsingBatch,
    direction: Float[Tensor, "problems n"],
    seed: int,
    progress: Progress = lambda _: None,
) -> Reference:
    """The reference by the exact engine of the structure of J; of a band, pairs within it.

    Args:
        problems: The problems, one query a group, β = 1, float64.
        direction: Gradients that arrive at ⟨s⟩.
        seed: Seed of the reads.
        progress: Called with a line before each problem.
    """
    assert isinstance(problems.J, Couplings)
    known = present_pairs(problems)
    if isinstance(problems.J, Banded):
        spins = torch.arange(problems.num_spins)
        known = known & ((spins - spins.unsqueeze(1)).abs() <= problems.J.width)
    engine = _Engine(STRUCTURED[problems.J.kind], _of_structure, exact.sample)
    return _reference(engine, problems, known, direction, seed, progress)


def _of_structure(piece: IsingBatch, direction: Tensor) -> Solution:
    assert isinstance(piece.J, Couplings)
    h, values = piece.h.clone().requires_grad_(), piece.J.values.clone().requires_grad_()
    batch = IsingBatch(h, piece.J.with_values(values), piece.lengths, validate=False)
    mean = exact.mean_spins(batch)[:, 0]
    of_h, of_J = torch.autograd.grad((mean * direction).sum(), (h, values), materialize_grads=True)
    log_Z = exact.log_partition(batch)[:, 0]
    if isinstance(piece.J, Banded):
        # ∂ log Z/∂J_jk = ⟨s_j s_k⟩: all coupled pairs in one backward pass.
        (of_pairs,) = torch.autograd.grad(log_Z.sum(), values, materialize_grads=True)
        pairs = Banded(of_pairs).dense() + torch.diag_embed(piece.active[:, 0].double())
    else:
        pairs = exact.pair_correlations(piece)[:, 0]
    return Solution(mean, pairs, of_h[:, 0], of_J, log_Z)


def _reference(
    engine: _Engine,
    problems: IsingBatch,
    known: Bool[Tensor, "problems n n"],
    direction: Float[Tensor, "problems n"],
    seed: int,
    progress: Progress,
) -> Reference:
    """Each problem solved, with reads for its energies and a pool of reads for the floor."""
    count, n = problems.num_groups, problems.num_spins
    seeds = torch.Generator().manual_seed(seed)
    pool_reads = max(1, min(POOL_READS, POOL_BYTES // (count * n)))
    solutions: list[Solution] = []
    energies, pool = [], []
    start = time.perf_counter()
    for p in range(count):
        each = (time.perf_counter() - start) / p if p else 0.0
        left = f", {each * (count - p):.0f} s left" if p else ""
        progress(f"{engine.name}, problem {p + 1} of {count}{left}")
        piece = part_of(problems, slice(p, p + 1))
        solutions.append(Solution(*(x.detach() for x in engine.solve(piece, direction[p]))))
        reads = engine.sample(piece, ENERGY_READS + pool_reads, _next(seeds)).spins
        of_energy, of_pool = reads.split([ENERGY_READS, pool_reads], 2)
        parts = of_energy.split(max(1, ENERGY_SPINS // n), 2)
        energy = torch.cat([piece.energies(part) for part in parts], 2)
        energies.append(distribution_of(energy[0, 0].numpy()))
        pool.append(of_pool.clone())
    solution = Solution(*(torch.cat(x) for x in zip(*solutions, strict=True)))
    reads = torch.cat(pool)

    def draw(num_reads: int, seed: int) -> SpinSamples:
        seeds = torch.Generator().manual_seed(seed)
        if num_reads > pool_reads:
            return SpinSamples(engine.sample(problems, num_reads, _next(seeds)).spins)
        # Some of the pool's, none twice: independent reads.
        return SpinSamples(reads[:, :, torch.randperm(pool_reads, generator=seeds)[:num_reads]])

    return Reference(
        problems,
        engine.name,
        solution.mean,
        solution.pairs,
        known,
        tuple(energies),
        direction,
        solution.of_h,
        solution.of_J,
        solution.log_Z,
        draw,
    )


def _next(seeds: torch.Generator) -> int:
    return int(torch.randint(2**31, (), generator=seeds))
