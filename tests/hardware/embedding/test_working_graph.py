"""Working graphs: perfect, with defects, and as a solver's properties describe them."""

import dwave.graphs
import numpy as np
import pytest

from qattn.hardware.embedding.working_graph import WorkingGraph


def small(topology):
    return WorkingGraph.perfect(topology, 3)


@pytest.mark.parametrize(
    ("topology", "shape", "qubits", "couplers", "sites"),
    [
        ("zephyr", (12, 4), 4800, 45864, 4800),
        ("zephyr", (3, 2), 168, None, 168),
        ("pegasus", (16,), 5640, 40484, 5760),
    ],
)
def test_perfect_graphs_have_the_published_sizes(topology, shape, qubits, couplers, sites):
    graph = WorkingGraph.perfect(topology, *shape)
    assert (len(graph.qubits), graph.num_sites) == (qubits, sites)
    assert couplers in (None, len(graph.couplers))
    assert (graph.couplers[:, 0] < graph.couplers[:, 1]).all()
    assert graph.shape == shape


def test_zephyr_has_four_by_default():
    assert WorkingGraph.perfect("zephyr", 2).shape == (2, 4)


@pytest.mark.parametrize("topology", ["zephyr", "pegasus"])
def test_networkx_and_back(topology):
    graph = small(topology).with_defects(0.1, 0.05, seed=1)
    found = graph.to_networkx()
    assert found.graph["family"] == topology
    assert found.graph["rows"] == 3
    assert set(found.nodes) == set(graph.qubits.tolist())
    assert {tuple(sorted(edge)) for edge in found.edges} == set(map(tuple, graph.couplers.tolist()))
    perfect = getattr(dwave.graphs, f"{topology}_graph")(3)
    assert all(perfect.has_edge(*edge) for edge in found.edges)


def test_properties_in_any_order_give_the_same_graph():
    graph = small("zephyr").with_defects(0.05, 0.05, seed=2)
    rng = np.random.default_rng(0)
    flip = rng.random((len(graph.couplers), 1)) < 0.5
    flipped = np.where(flip, graph.couplers[:, ::-1], graph.couplers)
    properties = {
        "topology": {"type": "zephyr", "shape": [3, 4]},
        "qubits": rng.permutation(graph.qubits).tolist(),
        "couplers": rng.permutation(flipped).tolist(),
        "num_qubits": 4 * 4 * 3 * 7,
    }
    again = WorkingGraph.from_properties(properties, "id")
    assert np.array_equal(again.qubits, graph.qubits)
    assert np.array_equal(again.couplers, graph.couplers)
    assert again.digest == graph.digest
    assert again.graph_id == "id"
    assert again.num_sites == properties["num_qubits"]


def test_digest_sees_one_dead_coupler():
    graph = small("pegasus")
    fewer = WorkingGraph("pegasus", (3,), graph.qubits, graph.couplers[1:], graph.graph_id)
    assert fewer.digest != graph.digest


@pytest.mark.parametrize("topology", ["zephyr", "pegasus"])
def test_defects_are_as_many_as_asked_and_follow_the_seed(topology):
    graph = small(topology)
    worse = graph.with_defects(0.1, 0.2, seed=3)
    assert len(graph.qubits) - len(worse.qubits) == round(0.1 * len(graph.qubits))
    between = np.isin(graph.couplers, worse.qubits).all(1).sum()
    assert between - len(worse.couplers) == round(0.2 * between)
    assert worse.digest == graph.with_defects(0.1, 0.2, seed=3).digest
    assert worse.digest != graph.with_defects(0.1, 0.2, seed=4).digest
    assert worse.graph_id != graph.graph_id


def test_nothing_is_left_when_everything_is_dead():
    graph = small("zephyr").with_defects(1.0, 0.0, seed=0)
    assert graph.qubits.shape == (0,)
    assert graph.couplers.shape == (0, 2)
    assert len(graph.to_networkx()) == 0
    assert graph.position_of_qubit([0]).tolist() == [-1]
    assert graph.position_of_coupler([0], [1]).tolist() == [-1]


def test_coupling_groups_are_oceans_where_couplers_are_dead_too():
    from dwave.system.coupling_groups import coupling_groups

    graph = small("zephyr").with_defects(0.1, 0.1, seed=4)
    members = {}
    for edge, groups in zip(graph.couplers.tolist(), graph.coupling_groups.tolist(), strict=True):
        for group in groups:
            members.setdefault(group, set()).add(tuple(edge))
    theirs = [{tuple(sorted(e)) for e in group} for group in coupling_groups(graph.to_networkx())]
    assert sorted(map(sorted, members.values())) == sorted(map(sorted, filter(None, theirs)))
    assert small("pegasus").coupling_groups is None


def test_positions_of_qubits_and_couplers():
    graph = small("zephyr").with_defects(0.1, 0.1, seed=5)
    assert np.array_equal(graph.qubits[graph.coupler_ends], graph.couplers)
    N, E = len(graph.qubits), len(graph.couplers)
    assert np.array_equal(graph.position_of_qubit(graph.qubits), np.arange(N))
    dead = np.setdiff1d(np.arange(graph.num_sites), graph.qubits)
    assert (graph.position_of_qubit(dead) == -1).all()
    assert (graph.position_of_qubit([-1, graph.num_sites]) == -1).all()
    u, v = graph.couplers.T
    assert np.array_equal(graph.position_of_coupler(u, v), np.arange(E))
    assert np.array_equal(graph.position_of_coupler(v, u), np.arange(E))
    gone = small("zephyr").couplers
    alive = set(map(tuple, graph.couplers.tolist()))
    expected = [tuple(pair) in alive for pair in gone.tolist()]
    assert ((graph.position_of_coupler(*gone.T) >= 0) == expected).all()
    assert (graph.position_of_coupler([-1, 3], [3, -1]) == -1).all()


def test_arrays_cannot_be_changed():
    graph = small("zephyr")
    with pytest.raises(ValueError, match="read-only"):
        graph.qubits[0] = 1


def test_wrong_graphs_are_rejected():
    graph = small("zephyr")
    qubits, couplers = graph.qubits, graph.couplers
    wrong = [
        (("chimera", (3,), qubits, couplers), "topology"),
        (("zephyr", (3, 4, 1), qubits, couplers), "shape"),
        (("zephyr", (0,), qubits, couplers), "shape"),
        (("pegasus", (1,), qubits, couplers), "shape"),
        (("zephyr", (3,), qubits[::-1], couplers), "qubits"),
        (("zephyr", (2,), qubits, couplers), "qubits"),
        (("zephyr", (3,), qubits, couplers[::-1]), "couplers"),
        (("zephyr", (3,), qubits, couplers[:, ::-1]), "couplers"),
        (("zephyr", (3,), qubits[1:], couplers), "active qubits"),
    ]
    for arguments, message in wrong:
        with pytest.raises(ValueError, match=message):
            WorkingGraph(*arguments, "id")
    with pytest.raises(ValueError, match="lacks 'couplers', 'topology'"):
        WorkingGraph.from_properties({"qubits": [0]}, "id")
    with pytest.raises(ValueError, match="dead_couplers"):
        graph.with_defects(0.1, 1.5, seed=0)


def test_counts_left_are_exact_and_checked():
    graph = small("zephyr")
    left = graph.with_counts(320, 2500, seed=1)
    assert (len(left.qubits), len(left.couplers)) == (320, 2500)
    assert np.isin(left.couplers, graph.couplers).all()
    assert left.digest == graph.with_counts(320, 2500, seed=1).digest
    for counts, name in (((337, 10), "num_qubits"), ((300, 2800), "num_couplers")):
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            graph.with_counts(*counts, seed=0)
