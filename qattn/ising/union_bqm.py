"""Many disjoint Ising models as one dimod problem, and the reads of that problem split again."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import dimod
import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def slices(lengths: Ints, max_spins: int) -> Iterator[slice]:
    """Slices of problems with at most `max_spins` spins together, each of one problem at least."""
    ends = np.cumsum(lengths)
    start = 0
    while start < len(lengths):
        before = ends[start] - lengths[start]
        end = max(start + 1, int(np.searchsorted(ends, before + max_spins, side="right")))
        yield slice(start, end)
        start = end


def union_bqm(
    linear: NDArray[Any],
    quadratic: NDArray[Any],
    group: Ints | None = None,
    lengths: Ints | None = None,
) -> dimod.BinaryQuadraticModel:
    r"""One BQM of disjoint blocks, so that a sampler sees one problem.

    .. math:: E(s) = \sum_p \Big(\sum_j a_{pj} s_{pj} + \sum_{j<k} B_{jk} s_{pj} s_{pk}\Big)

    Its variables are running integers over the first ``lengths[p]`` spins of each problem p.

    Args:
        linear: Linear biases in dimod's signs, shape (problems, spins).
        quadratic: Quadratic biases of each group, symmetric, shape (groups, spins, spins).
        group: The group of each problem, shape (problems,); None means one group a problem.
        lengths: Number of spins of each problem, shape (problems,); None means all.
    """
    n = linear.shape[1]
    group = np.arange(len(linear)) if group is None else group
    lengths = np.full(len(linear), n) if lengths is None else lengths
    row, col = _pairs(n)
    weights = quadratic[:, row, col][group]
    starts = (np.cumsum(lengths) - lengths)[:, None]
    if (lengths == n).all():
        rows, cols = starts + row, starts + col
    else:
        # Pairs j < k both of whose spins are there: those with k below the length.
        present = col < lengths[:, None]
        rows, cols, weights = (starts + row)[present], (starts + col)[present], weights[present]
        linear = linear[np.arange(n) < lengths[:, None]]
    vectors = rows.ravel(), cols.ravel(), weights.ravel()
    return dimod.BinaryQuadraticModel.from_numpy_vectors(linear.ravel(), vectors, 0.0, dimod.SPIN)


def split_union(
    sampleset: dimod.SampleSet, lengths: Ints, num_spins: int
) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Reads of each block of a union BQM, 0 at absent spins, and how often each row occurred.

    Args:
        sampleset: Spin-valued reads of the BQM that :func:`union_bqm` built.
        lengths: Number of spins of each problem, shape (problems,).
        num_spins: Spins of a row of the answer.

    Returns:
        Spins, shape (problems, rows, num_spins), and occurrences, shape (rows,).

    Raises:
        ValueError: The variables of `sampleset` are not 0 … Σ lengths - 1.
    """
    total = int(lengths.sum())
    rows = _in_order(sampleset, total)
    occurrences = np.asarray(sampleset.record.num_occurrences, dtype=np.int64)
    if (lengths == num_spins).all():
        blocks = rows.reshape(len(rows), len(lengths), num_spins)
    else:
        blocks = np.zeros((len(rows), len(lengths), num_spins), dtype=np.int8)
        blocks[:, np.arange(num_spins) < lengths[:, None]] = rows
    return np.ascontiguousarray(blocks.transpose(1, 0, 2)), occurrences


def join_reads(reads: NDArray[np.int8], lengths: Ints) -> NDArray[np.int8]:
    """Reads of the blocks as states of the union BQM, shape (rows, Σ lengths).

    The reverse of :func:`split_union`, for a sampler that goes on from reads.

    Args:
        reads: Spins, shape (problems, rows, spins).
        lengths: Number of spins of each problem, shape (problems,).
    """
    present = np.arange(reads.shape[2]) < lengths[:, None]
    return np.ascontiguousarray(reads.transpose(1, 0, 2)[:, present])


def _in_order(sampleset: dimod.SampleSet, total: int) -> NDArray[np.int8]:
    """The reads with column v holding variable v."""
    labels = list(sampleset.variables)
    rows = np.asarray(sampleset.record.sample, dtype=np.int8)
    if labels == list(range(total)):
        return rows
    if sorted(labels) != list(range(total)):
        raise ValueError(
            f"Argument `sampleset` must have the variables 0 to {total - 1} of the union BQM, "
            f"but has {len(labels)} variables: {labels[:3]}…"
        )
    return rows[:, np.argsort(labels)]


@lru_cache(maxsize=64)
def _pairs(num_spins: int) -> tuple[Ints, Ints]:
    row, col = np.triu_indices(num_spins, 1)
    return row, col
