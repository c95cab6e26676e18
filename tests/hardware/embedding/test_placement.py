"""Problems onto slots: complete, disjoint, few jobs, and there and back again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qattn.hardware.embedding.placement import place


@st.composite
def batches(draw):
    n = draw(st.integers(1, 12))
    sizes = draw(st.lists(st.integers(0, n), max_size=60))
    return np.array(sizes, dtype=np.int64), draw(st.integers(1, 7)), n


@settings(max_examples=200)
@given(batches())
def test_every_problem_is_placed_once_and_none_overlap(batch):
    sizes, slots, n = batch
    jobs = place(sizes, slots, n)
    placed = np.concatenate([job.problem for job in jobs]) if jobs else np.zeros(0, int)
    assert sorted(placed.tolist()) == np.flatnonzero(sizes > 0).tolist()
    for job in jobs:
        assert np.array_equal(job.size, sizes[job.problem])
        assert (np.diff(job.problem) > 0).all()
        assert ((job.offset >= 0) & (job.offset + job.size <= n)).all()
        assert ((job.slot >= 0) & (job.slot < slots)).all()
        assert job.used(slots, n).sum() == job.size.sum()
    # No two slots could be one, so all but one are more than half full on average.
    filled = sum(len(set(job.slot.tolist())) for job in jobs)
    assert filled <= 2 * -(-int(sizes.sum()) // n)
    assert len(jobs) == -(-filled // slots)


def test_causal_sizes_fill_slots_to_the_brim():
    """1 … 8 for each of 30 sequences: 7 with 1, 6 with 2, and so on: 4.5 slots a sequence."""
    sizes = np.tile(np.arange(1, 9), 30)
    jobs = place(sizes, 50, 8)
    assert [len(set(job.slot.tolist())) for job in jobs] == [50, 50, 35]


def test_slots_are_taken_from_the_first():
    (job,) = place(np.array([3, 3]), 10, 4)
    assert sorted(job.slot.tolist()) == [0, 1]


def test_equal_calls_give_equal_placements():
    sizes = np.random.default_rng(0).integers(0, 10, 300)
    for one, other in zip(place(sizes, 20, 9), place(sizes, 20, 9), strict=True):
        for name in ("problem", "slot", "offset", "size"):
            assert np.array_equal(getattr(one, name), getattr(other, name))


@settings(max_examples=30)
@given(batches(), st.integers(0, 2**32 - 1))
def test_biases_and_reads_go_there_and_back(batch, seed):
    sizes, slots, n = batch
    rng = np.random.default_rng(seed)
    P = len(sizes)
    group = rng.integers(0, 3, P)
    h, J = rng.normal(size=(P, n)), rng.normal(size=(3, n, n))
    J = J + J.mT
    spins = 2 * rng.integers(0, 2, (P, 4, n), dtype=np.int8) - 1
    spins *= (np.arange(n) < sizes[:, None])[:, None]
    for job in place(sizes, slots, n):
        linear, quadratic = job.scatter(h, J, slots, n, group)
        by_slot = np.zeros((slots, 4, n), dtype=np.int8)
        for p, slot, start, size in zip(job.problem, job.slot, job.offset, job.size, strict=True):
            here = slice(start, start + size)
            assert np.array_equal(linear[slot, here], h[p, :size])
            assert np.array_equal(quadratic[slot, here, here], J[group[p], :size, :size])
            quadratic[slot, here, here] = 0
            by_slot[slot, :, here] = spins[p, :, :size]
        assert not quadratic.any(), "two problems of one slot are coupled"
        assert not linear[~job.used(slots, n)].any()
        gathered = job.gather(by_slot.transpose(0, 2, 1), n).transpose(0, 2, 1)
        assert np.array_equal(gathered, spins[job.problem])
        chains = job.gather(linear, n)
        expected = h[job.problem] * (np.arange(n) < job.size[:, None])
        assert np.array_equal(chains, expected)


def test_one_group_a_problem_by_default():
    sizes = np.array([2, 2])
    (job,) = place(sizes, 1, 4)
    J = np.arange(8.0).reshape(2, 2, 2)
    _, quadratic = job.scatter(np.zeros((2, 2)), J, 1, 4)
    for p, start in zip(job.problem, job.offset, strict=True):
        assert np.array_equal(quadratic[0, start : start + 2, start : start + 2], J[p])


def test_impossible_sizes_are_rejected():
    with pytest.raises(ValueError, match="between 0 and 4"):
        place(np.array([5]), 3, 4)
    with pytest.raises(ValueError, match="between 0 and 4"):
        place(np.array([-1]), 3, 4)
    with pytest.raises(ValueError, match="num_slots"):
        place(np.array([1]), 0, 4)
    assert place(np.array([0, 0]), 0, 4) == []
    assert place(np.zeros(0, dtype=np.int64), 3, 4) == []
