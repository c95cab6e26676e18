"""What is programmed: signs, scales, carriers, shares."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qattn import IsingBatch, problems
from qattn.hardware.embedding.placement import place
from qattn.hardware.embedding.program import (
    carrier_qubits,
    clip,
    program,
    shares,
    target_spins,
)

BATCH = problems.synthetic(12, 4, seed=2)


def test_signs_and_scales_are_dimods():
    """linear = -βh/β_h and quadratic = -βJ/β_J, as dimod's own BQMs of the batch say."""
    warm = IsingBatch(BATCH.h, BATCH.J, beta=0.5)
    found = program(warm, (4.0, 8.0), "direct")
    for number, bqm in enumerate(warm.to_bqms()):
        linear, (row, col, quadratic), _ = bqm.to_numpy_vectors()
        assert found.h[number] == pytest.approx(0.5 * linear / 4.0)
        assert found.J[number][row, col] == pytest.approx(0.5 * quadratic / 8.0)
        assert found.J[number][col, row] == pytest.approx(0.5 * quadratic / 8.0)


def test_ghost_carries_fields_with_their_own_temperature():
    found = program(BATCH, (4.0, 8.0), "ghost")
    assert not found.h.any()
    assert found.J[:, 0, 1:] == pytest.approx(-BATCH.h.reshape(-1, 4).numpy() / 4.0)
    assert found.J[3, 1:, 1:] == pytest.approx(-BATCH.J[0].numpy() / 8.0)
    assert (found.sizes == 5).all()


def test_empty_queries_need_no_ghost():
    lengths = torch.tensor([4, 0, 2, 1, 3, 0, 4, 4, 4, 4])
    batch = IsingBatch(BATCH.h, BATCH.J, lengths)
    assert program(batch, (1.0, 1.0), "ghost").sizes[:6].tolist() == [5, 0, 3, 2, 4, 0]


def test_carriers_are_the_first_chains_with_their_gauge():
    (placement,) = place(np.array([3, 2]), 1, 5)
    chains = np.array([[[10, 11], [12, -1], [13, -1], [14, 15], [16, -1]]], np.int32)
    gauge = np.array([[-1, 1, 1, 1, -1]], np.int8)
    qubits, signs = carrier_qubits(placement, chains, gauge)
    found = dict(zip(qubits.tolist(), signs.tolist(), strict=True))
    expected = {}
    for offset in placement.offset.tolist():
        for qubit in chains[0, offset]:
            if qubit >= 0:
                expected[int(qubit)] = int(gauge[0, offset])
    assert found == expected


def test_reads_are_multiplied_by_their_carrier():
    programmed = np.array([[[-1, 1, -1], [1, 1, -1]]], np.int8)
    assert target_spins(programmed, "ghost", (1, 1)).tolist() == [[[[-1, 1], [1, -1]]]]
    assert target_spins(programmed, "direct", (1, 1)).shape == (1, 1, 2, 3)


def test_clipping_counts_pairs_once():
    found = clip(program(BATCH, (0.1, 0.1), "direct"), 2.0, 1.5)
    assert abs(found.h).max() == 2.0
    assert abs(found.J).max() == 1.5
    whole = program(BATCH, (0.1, 0.1), "direct")
    pairs = abs(whole.J[:, *np.triu_indices(4, 1)]) > 1.5
    assert found.clipped == (abs(whole.h) > 2.0).sum() + pairs.sum()


@given(st.integers(1, 5000), st.integers(1, 20), st.integers(1, 999))
def test_shares_add_up(num_reads, transforms, most):
    found = shares(num_reads, transforms, most)
    assert sum(found) == num_reads
    assert min(found) >= 1
    assert max(found) <= most
    assert max(found) - min(found) <= 1
    assert len(found) >= min(transforms, num_reads)
