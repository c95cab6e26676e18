"""Which reference a batch gets."""

from collections.abc import Callable

import torch

from qattn.couplings import Couplings
from qattn.exact.elimination import MAX_WIDTH
from qattn.ising.batch import IsingBatch
from qattn.quality.drawn_reference import is_sparse, structured_reference, tree_reference
from qattn.quality.exact_reference import exact_reference
from qattn.quality.reference import Reference, is_quadratic
from qattn.quality.split import one_group_per_problem
from qattn.quality.tempered.reference import TEMPERING_SWEEPS, tempered_reference

EXACT_SPINS = 20
"""Largest number of spins at which distributions are enumerated by default."""


def reference_of(
    batch: IsingBatch,
    *,
    seed: int = 0,
    exact_spins: int = EXACT_SPINS,
    max_width: int = MAX_WIDTH,
    tempering_sweeps: int = TEMPERING_SWEEPS,
    progress: Callable[[str], None] = lambda _: None,
) -> Reference:
    """The reference of a batch: exact if its problems are small, sparse, or J has a structure.

    Others are tempered long.

    Small ones are enumerated; of couplings with a structure, and of sparse ones (treewidth up to
    25), the moments, gradients and log Z are exact by the structure's engine and by tree
    decomposition, those of pairs in a band and in a sparse J for coupled ones.

    Args:
        batch: The problems, with their β.
        seed: Seed of the random gradients, and of a long run.
        exact_spins: Largest number of spins that is enumerated.
        max_width: Largest treewidth that is summed.
        tempering_sweeps: Sweeps of a long run, kept on disk for the next time.
        progress: Called with a line before the work.

    Raises:
        ValueError: No query has spins, or there are no sweeps.
        MemoryError: One problem exceeds ``qattn.exact.memory.MEMORY_LIMIT``.

    Warns:
        EquilibriumWarning: The long run of a problem is not known to be in equilibrium.
    """
    problems = one_group_per_problem(batch)
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(problems.h[:, 0].shape, generator=generator, dtype=torch.float64)
    direction = direction * problems.active.expand_as(problems.h)[:, 0]
    if isinstance(problems.J, Couplings):
        if problems.num_spins > exact_spins or not is_quadratic(problems):
            return structured_reference(problems, direction, seed, progress)
        problems = problems.dense()
    if problems.num_spins <= exact_spins:
        progress("exact moments, energies and gradients")
        return exact_reference(problems, direction)
    if is_sparse(problems, max_width):
        return tree_reference(problems, direction, seed, progress)
    return tempered_reference(problems, direction, seed, tempering_sweeps, progress)
