"""The reference of sparse problems: exact values by tree decomposition."""

import time
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.exact import memory, tree
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples
from qattn.quality.energy import distribution_of
from qattn.quality.reference import Reference, present_pairs
from qattn.quality.split import part_of

ENERGY_READS = 100_000
"""Exact reads of each problem that stand for the distribution of its energy, which is then off by
1/√ENERGY_READS of its standard deviation, a tenth of the noise of 1,000 reads."""

POOL_READS = 100_000
"""Further exact reads of each problem, from which those of the noise floor are taken."""

POOL_BYTES = 1 << 29
"""Bytes of the pool of all problems; many large ones get fewer reads."""


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
    progress: Callable[[str], None] = lambda _: None,
) -> Reference:
    """The reference by tree decomposition: exact moments and gradients of coupled pairs.

    Energies are those of :data:`ENERGY_READS` exact reads.

    Args:
        problems: The problems, one query a group, β = 1, float64.
        direction: Gradients that arrive at ⟨s⟩.
        seed: Seed of the reads.
        progress: Called with a line before each problem.

    Raises:
        ValueError: The couplings are too dense.
        MemoryError: One problem exceeds ``qattn.exact.memory.MEMORY_LIMIT``.
    """
    count, n = problems.num_groups, problems.num_spins
    seeds = torch.Generator().manual_seed(seed)
    pool_reads = max(1, min(POOL_READS, POOL_BYTES // (count * n)))
    values: list[tuple[Tensor, ...]] = []
    energies, pool = [], []
    start = time.perf_counter()
    for p in range(count):
        each = (time.perf_counter() - start) / p if p else 0.0
        left = f", {each * (count - p):.0f} s left" if p else ""
        progress(f"tree decomposition, problem {p + 1} of {count}{left}")
        piece = part_of(problems, slice(p, p + 1))
        h, J = piece.h.clone().requires_grad_(), piece.matrix.clone().requires_grad_()
        found = tree.moments(IsingBatch(h, J, piece.lengths, validate=False))
        value = (found.mean[:, 0] * direction[p]).sum()
        of_h, of_J = torch.autograd.grad(value, (h, J), materialize_grads=True)
        log_Z, mean, pairs = (x.detach() for x in found)
        values.append((mean[:, 0], pairs[:, 0], of_h[:, 0], of_J, log_Z[:, 0]))
        reads = tree.sample(piece, ENERGY_READS + pool_reads, _next(seeds)).spins
        of_energy, of_pool = reads.split([ENERGY_READS, pool_reads], 2)
        energies.append(distribution_of(piece.energies(of_energy)[0, 0].numpy()))
        pool.append(of_pool.clone())
    mean, pairs, of_h, of_J, log_Z = (torch.cat(x) for x in zip(*values, strict=True))
    reads = torch.cat(pool)

    def draw(num_reads: int, seed: int) -> SpinSamples:
        seeds = torch.Generator().manual_seed(seed)
        if num_reads > pool_reads:
            return SpinSamples(tree.sample(problems, num_reads, _next(seeds)).spins)
        # Some of the pool's, none twice: independent reads.
        return SpinSamples(reads[:, :, torch.randperm(pool_reads, generator=seeds)[:num_reads]])

    return Reference(
        problems,
        "tree decomposition",
        mean,
        pairs,
        (problems.J != 0) & present_pairs(problems),
        tuple(energies),
        direction,
        of_h,
        of_J,
        log_Z,
        draw,
    )


def _next(seeds: torch.Generator) -> int:
    return int(torch.randint(2**31, (), generator=seeds))
