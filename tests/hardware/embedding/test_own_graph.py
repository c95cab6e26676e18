"""Large sparse problems are embedded by their own graph."""

import numpy as np
import pytest
import torch
from _support.qpu_backends import backend_of

from qattn import IsingBatch, quality
from qattn.field_encoding import FieldEncoding
from qattn.hardware.embedding import Embedding, Packing, WorkingGraph
from qattn.hardware.embedding.own_graph import own_pairs, pack_graph
from qattn.hardware.emulator import EmulatedQPU
from qattn.problems import edwards_anderson, qpu_native
from qattn.quality import drawn_reference

LATTICE = edwards_anderson(3, size=7, periodic=False, coupling=0.5, seed=1)


def pairs_of(batch, encoding="ghost"):
    return own_pairs(FieldEncoding.parse(encoding).encode_batch(batch, (1.0, 1.0)))


def test_what_is_native_takes_one_qubit_a_spin():
    batch = qpu_native(2, topology="zephyr", size=1)
    pairs = pairs_of(batch, "direct")
    assert len(pairs) == int((batch.J[0] != 0).sum()) // 2
    packing = pack_graph(WorkingGraph.perfect("zephyr", 3), 48, pairs)
    assert packing.num_slots >= 2
    assert set(packing.chain_lengths.ravel()) == {1}
    # The carrier of fields that are zero is a qubit without couplings.
    ghost = pairs_of(batch)
    assert np.array_equal(ghost, pairs + 1)
    assert set(pack_graph(packing.graph, 49, ghost).chain_lengths.ravel()) == {1}
    # What is written in a journal comes back.
    again = Packing.from_arrays(packing.to_arrays())
    assert again.digest == packing.digest
    assert packing.digest != Packing(packing.graph, packing.chains, pairs[1:]).digest


def test_energies_survive_the_embedding():
    packing = pack_graph(WorkingGraph.perfect("zephyr", 2), 50, pairs_of(LATTICE))
    embedding = Embedding(packing)
    slots = packing.num_slots
    batch = LATTICE.with_ghost_spin()
    J = -np.repeat(batch.J[:1].numpy(), slots, 0)
    problem = embedding.embed(np.zeros((slots, 50)), J, chain_strength=1.0)
    assert problem.quadratic.sum() == pytest.approx(slots * J[0][np.triu_indices(50, 1)].sum())


def test_what_has_other_graphs_or_sizes_stays_with_cliques():
    assert pairs_of(LATTICE) is not None
    small = edwards_anderson(3, size=4, periodic=False)
    assert pairs_of(small) is None
    dense = IsingBatch(torch.zeros(1, 1, 40), 1 - torch.eye(40).unsqueeze(0))
    assert pairs_of(dense) is None
    lengths = torch.tensor([[49], [40], [49]])
    assert pairs_of(IsingBatch(LATTICE.h, LATTICE.J, lengths)) is None


def test_fields_take_chains():
    fields = IsingBatch(LATTICE.h + 0.1, LATTICE.J)
    packing = pack_graph(WorkingGraph.perfect("zephyr", 4), 50, pairs_of(fields))
    assert packing.chain_lengths[0, 0] > 1  # the ghost spin's
    lacking = np.vstack([pairs_of(fields), [[1, 49]]])
    with pytest.raises(ValueError, match="must have a coupler"):
        Packing(packing.graph, packing.chains[:, ::-1], lacking)


def test_what_fits_nowhere_is_refused():
    with pytest.raises(ValueError, match=r"no embedding of these 49 spins with \d+ couplings"):
        pack_graph(WorkingGraph.perfect("zephyr", 1), 49, pairs_of(LATTICE, "direct"))


def test_an_emulated_qpu_is_judged_exactly(tmp_path, monkeypatch):
    monkeypatch.setattr(drawn_reference, "ENERGY_READS", 5000)
    monkeypatch.setattr(drawn_reference, "POOL_READS", 5000)
    with EmulatedQPU(seed=3, shape=(3, 4)) as qpu:
        backend = backend_of(qpu, tmp_path)
        samples = backend.sample(LATTICE, num_reads=200, seed=1)
        backend.close()
    assert samples.info["chain_break_rate"] == 0
    judged = quality.judge(samples, LATTICE)
    assert judged.is_exact
    for name in ("pair_rms", "energy_distance"):
        assert abs(judged.scores[name].ratio - 1) < 6 * judged.scores[name].ratio_error, name
