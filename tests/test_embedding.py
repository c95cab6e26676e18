"""Embedding and unembedding by index arrays."""

import numpy as np
import pytest
from minorminer.busclique import find_clique_embedding

from qattn.hardware.clique_slots import Packing
from qattn.hardware.embedding import Embedding
from qattn.hardware.working_graph import WorkingGraph


@pytest.fixture(scope="module")
def embedding():
    graph = WorkingGraph.perfect("zephyr", 2)
    found = find_clique_embedding(9, graph.to_networkx(), use_cache=False, seed=1)
    chains = np.full((1, 9, 3), -1, dtype=np.int32)
    for spin, chain in found.items():
        chains[0, spin, : len(chain)] = chain
    return Embedding(Packing(graph, chains))


def test_unbroken_states_have_the_logical_energy_and_come_back(embedding):
    rng = np.random.default_rng(0)
    packing = embedding.packing
    h, J = rng.normal(size=(1, 9)), np.triu(rng.normal(size=(1, 9, 9)), 1)
    problem = embedding.embed(h, J + J.mT, chain_strength=1.5)
    spins = 2 * rng.integers(0, 2, (20, 9), dtype=np.int8) - 1
    owner = packing.chain_of_qubit
    reads = np.where(owner >= 0, spins[:, owner], 0).astype(np.int8)
    u, v = packing.graph.coupler_ends.T
    physical = reads @ problem.linear + (reads[:, u] * reads[:, v]) @ problem.quadratic
    logical = spins @ h[0] + np.einsum("rj,jk,rk->r", spins, J[0], spins)
    chain_couplers = packing.num_qubits - 9
    assert physical == pytest.approx(logical - 1.5 * chain_couplers)
    found = embedding.unembed(reads, rng=rng)
    assert np.array_equal(found.spins[0], spins)
    assert not found.broken.any()
