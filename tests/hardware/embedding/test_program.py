"""What a call programs: carriers, clipping, shares."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qattn import problems
from qattn.field_encoding import FieldEncoding
from qattn.hardware.embedding.placement import place
from qattn.hardware.embedding.program import carrier_qubits, clip, shares

BATCH = problems.synthetic(12, 4, seed=2)


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


def test_clipping_counts_pairs_once():
    whole = FieldEncoding.DIRECT.encode_batch(BATCH, (0.1, 0.1))
    clipped, cut = clip(whole, 2.0, 1.5)
    assert abs(clipped.h).max() == 2.0
    assert abs(clipped.J).max() == 1.5
    couplings = whole.J[whole.group][:, *np.triu_indices(4, 1)]
    assert cut == (abs(whole.h) > 2.0).sum() + (abs(couplings) > 1.5).sum()


@given(st.integers(1, 5000), st.integers(1, 20), st.integers(1, 999))
def test_shares_add_up(num_reads, transforms, most):
    found = shares(num_reads, transforms, most)
    assert sum(found) == num_reads
    assert min(found) >= 1
    assert max(found) <= most
    assert max(found) - min(found) <= 1
    assert len(found) >= min(transforms, num_reads)
