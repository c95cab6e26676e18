"""Ranges of a device, against plain sums over networkx graphs."""

import numpy as np
import pytest
from dwave.system.coupling_groups import coupling_groups

from qattn.hardware.embedding.embed import Embedding
from qattn.hardware.embedding.find_packing import pack_cliques
from qattn.hardware.embedding.limits import DeviceRanges
from qattn.hardware.embedding.working_graph import WorkingGraph

PROPERTIES = {
    "h_range": [-4.0, 4.0],
    "j_range": [-1.0, 1.0],
    "extended_j_range": [-2.0, 1.0],
    "per_qubit_coupling_range": [-18.0, 10.0],
    "per_group_coupling_range": [-13.0, 7.0],
}


@pytest.fixture(scope="module")
def embedding():
    graph = WorkingGraph.perfect("zephyr", 2).with_defects(0.02, 0.02, seed=1)
    return Embedding(pack_cliques(graph, 6))


def problem(embedding, scale, chain_strength=1.0, seed=0):
    rng = np.random.default_rng(seed)
    slots, n = embedding.packing.num_slots, embedding.packing.num_spins
    J = np.triu(scale * rng.choice([-1.0, 1.0], (slots, n, n)), 1)
    h = scale * rng.normal(size=(slots, n))
    return embedding.embed(h, J + J.mT, chain_strength=chain_strength)


def test_excess_is_the_largest_sum_over_its_limit(embedding):
    graph = embedding.packing.graph
    ranges = DeviceRanges.from_properties(PROPERTIES, graph)
    found = ranges.excess(problem(embedding, 2.0))
    linear, quadratic = problem(embedding, 2.0).to_dicts()
    J = {**quadratic, **{edge[::-1]: bias for edge, bias in quadratic.items()}}

    def worst(values, low, high):
        return max(value / (high if value > 0 else low) for value in values)

    whole = graph.to_networkx()
    qubits = [sum(J.get((q, p), 0.0) for p in whole[q]) for q in whole]
    groups = [sum(J.get(edge, 0.0) for edge in group) for group in coupling_groups(whole)]
    assert found == pytest.approx(
        {
            "h": worst(linear.values(), -4, 4),
            "J": worst(quadratic.values(), -2, 1),
            "per_qubit": worst(qubits, -18, 10),
            "per_group": worst(groups, -13, 7),
        }
    )


def test_limits_that_a_solver_lacks_do_not_count(embedding):
    graph = embedding.packing.graph
    few = {"h_range": [-4, 4], "j_range": [-1, 1], "extended_j_range": None}
    ranges = DeviceRanges.from_properties(few, graph)
    assert ranges.coupler_range == (-1, 1)
    found = ranges.excess(problem(embedding, 0.5))
    assert found["J"] == pytest.approx(1.0)  # the chains
    assert found["per_qubit"] == found["per_group"] == 0


def test_pegasus_has_no_groups():
    graph = WorkingGraph.perfect("pegasus", 2)
    embedding = Embedding(pack_cliques(graph, 4))
    found = DeviceRanges.from_properties(PROPERTIES, graph).excess(problem(embedding, 0.5))
    assert found["per_group"] == 0
    assert found["per_qubit"] > 0


def test_biases_up_to_the_limits_fit_and_others_do_not(embedding):
    packing = embedding.packing
    slots, n = packing.num_slots, packing.num_spins
    ranges = DeviceRanges.from_properties(PROPERTIES, packing.graph)
    limits = ranges.max_logical(packing, 1.5)
    assert limits.J_always <= limits.J
    off = 1 - np.eye(n)
    for sign in (-1.0, 1.0):
        h = np.full((slots, n), sign * limits.h)
        J = np.broadcast_to(sign * limits.J * off, (slots, n, n))
        found = ranges.excess(embedding.embed(h, J, chain_strength=1.5))
        assert max(found["h"], found["J"]) <= 1 + 1e-12
        assert found["h"] == pytest.approx(1.0)
        found = ranges.excess(
            embedding.embed(h, J * (limits.J_always / limits.J), chain_strength=1.5)
        )
        assert max(found.values()) <= 1 + 1e-12
    found = ranges.excess(embedding.embed(1.1 * h, 1.1 * J, chain_strength=1.5))
    assert min(found["h"], found["J"]) > 1
    # Sums that bind: with a narrow range for groups, J_always is what fits, and no more does.
    tight = DeviceRanges.from_properties(
        PROPERTIES | {"per_group_coupling_range": [-3.0, 1.0]}, packing.graph
    )
    limit = tight.max_logical(packing, 0.5).J_always
    assert limit < limits.J
    worst = 0.0
    for sign in (-1.0, 1.0):
        J = np.broadcast_to(sign * limit * off, (slots, n, n))
        worst = max(worst, *tight.excess(embedding.embed(0 * h, J, chain_strength=0.5)).values())
    assert worst == pytest.approx(1.0)


def test_chains_that_are_too_strong_are_rejected(embedding):
    ranges = DeviceRanges.from_properties(PROPERTIES, embedding.packing.graph)
    with pytest.raises(ValueError, match="chain_strength"):
        ranges.max_logical(embedding.packing, 2.1)


def test_wrong_ranges_are_rejected(embedding):
    graph = embedding.packing.graph
    with pytest.raises(ValueError, match="lacks 'h_range'"):
        DeviceRanges.from_properties({"j_range": [-1, 1]}, graph)
    with pytest.raises(ValueError, match="per_qubit"):
        DeviceRanges.from_properties(PROPERTIES | {"per_qubit_coupling_range": [1, 2]}, graph)
