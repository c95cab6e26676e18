"""Packings: valid, many, kept on disk, and made again where a file is damaged."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from qattn.hardware.embedding import find_packing as packing_module
from qattn.hardware.embedding.find_packing import cached_packing, pack_cliques, repair_packing
from qattn.hardware.embedding.packing import Packing
from qattn.hardware.embedding.packing_files import load_packing, save_packing
from qattn.hardware.embedding.pattern import Pattern
from qattn.hardware.embedding.search.disjoint_sets import SetPacking
from qattn.hardware.embedding.uniform_chains import lengthen
from qattn.hardware.embedding.working_graph import WorkingGraph

SIZES = {"zephyr": (12, 4), "pegasus": (16,)}
MUST_SHOW = {
    "zephyr": {9: 250, 13: 135, 17: 80},
    "pegasus": {9: 265, 13: 108, 17: 75},
}
CASES = [(topology, n) for topology, counts in MUST_SHOW.items() for n in counts]


def check_by_hand(packing):
    """Disjoint, connected, complete, alive: with networkx, not with the code under test."""
    import networkx

    graph = packing.graph.to_networkx()
    seen = set()
    for rows in packing.chains.tolist():
        chains = [[q for q in row if q >= 0] for row in rows]
        for chain in chains:
            assert chain
            assert all(graph.has_node(q) for q in chain)
            assert networkx.is_connected(graph.subgraph(chain))
            assert seen.isdisjoint(chain)
            seen.update(chain)
        for j, one in enumerate(chains):
            for other in chains[:j]:
                assert any(graph.has_edge(u, v) for u in one for v in other)


@pytest.fixture(scope="module")
def small():
    return pack_cliques(WorkingGraph.perfect("zephyr", 3), 5)


@pytest.mark.parametrize(
    ("topology", "m", "n", "least"),
    [
        ("zephyr", 2, 2, 78),
        ("zephyr", 2, 4, 24),
        ("zephyr", 3, 9, 13),
        ("pegasus", 3, 3, 38),
        ("pegasus", 3, 6, 12),
        pytest.param("zephyr", 4, 33, 2, marks=pytest.mark.slow),
        pytest.param("pegasus", 4, 13, 4, marks=pytest.mark.slow),
    ],
)
def test_small_perfect_graphs(topology, m, n, least):
    packing = pack_cliques(WorkingGraph.perfect(topology, m), n)
    check_by_hand(packing)
    assert packing.num_slots >= least
    assert packing.num_spins == n


@pytest.mark.parametrize("topology", ["zephyr", "pegasus"])
@pytest.mark.parametrize("dead", [(0.05, 0.01), (0.25, 0.1)])
def test_small_graphs_with_defects(topology, dead):
    graph = WorkingGraph.perfect(topology, 3).with_defects(*dead, seed=2)
    packing = pack_cliques(graph, 6)
    check_by_hand(packing)
    assert packing.num_slots >= 4


def test_one_spin_takes_one_qubit():
    graph = WorkingGraph.perfect("pegasus", 2)
    packing = pack_cliques(graph, 1)
    assert packing.num_slots == len(graph.qubits)


def test_slots_with_chains_of_one_length_come_first_and_are_counted(small):
    lengths = [{(row >= 0).sum() for row in slot} for slot in small.chains]
    assert small.uniform.tolist() == [len(different) == 1 for different in lengths]
    assert 0 < small.uniform.sum() < small.num_slots
    assert (np.diff(small.uniform.astype(int)) <= 0).all(), "uniform slots come first"
    assert f" {small.uniform.sum()} with chains of one length;" in small.describe()


def test_seed_fixes_the_packing(small):
    again, other = (pack_cliques(small.graph, 5, seed=seed) for seed in (0, 1))
    assert np.array_equal(again.chains, small.chains)
    assert not np.array_equal(other.chains, small.chains)


@pytest.mark.slow
@pytest.mark.parametrize("m", [1, 3])
def test_too_large_cliques_name_the_largest(m):
    graph = WorkingGraph.perfect("zephyr", m)
    largest = 16 * m - 8
    with pytest.raises(
        ValueError, match=rf"none of 60 spins .* largest clique found has {largest}:"
    ):
        pack_cliques(graph, 60)
    assert pack_cliques(graph, largest).num_slots == 1


def test_graphs_without_couplers_or_qubits():
    graph = WorkingGraph.perfect("zephyr", 2)
    no_couplers = graph.with_defects(0.0, 1.0, seed=0)
    nothing = graph.with_defects(1.0, 0.0, seed=0)
    with pytest.raises(ValueError, match="largest clique found has 1"):
        pack_cliques(no_couplers, 2)
    with pytest.raises(ValueError, match="largest clique found has 0"):
        pack_cliques(nothing, 2)
    with pytest.raises(ValueError, match="at least 1"):
        pack_cliques(graph, 0)


def test_invalid_packings_are_rejected(small):
    graph, chains = small.graph, small.chains

    def rejected(changed, message):
        with pytest.raises(ValueError, match=message):
            Packing(graph, changed)

    rejected(chains[:, :, 0], "shape")
    twice = chains.copy()
    twice[1] = twice[0]
    rejected(twice, "disjoint")
    empty = chains.copy()
    empty[0, 0] = -1
    rejected(empty, "every spin a qubit")
    stray = chains.copy()
    stray[0, 0, 0] = graph.num_sites
    rejected(stray, "active qubits")
    swapped = chains.copy()
    swapped[[0, -1], 0] = swapped[[-1, 0], 0]
    rejected(swapped, "coupler between every two chains")
    long = np.argwhere(small.chain_lengths == 2)
    torn = chains.copy()
    (s, j), (t, k) = long[0], long[-1]
    torn[s, j, 1], torn[t, k, 1] = torn[t, k, 1], torn[s, j, 1]
    rejected(torn, "connected")
    u, v = chains[s, j, :2]
    cut = graph.position_of_coupler(u[None], v[None])
    dead = WorkingGraph("zephyr", (3, 4), graph.qubits, np.delete(graph.couplers, cut, 0), "dead")
    with pytest.raises(ValueError, match="connected"):
        Packing(dead, chains)


def test_made_once_and_read_in_no_time(small, tmp_path, monkeypatch):
    first = cached_packing(small.graph, 5, folder=tmp_path)
    assert np.array_equal(first.chains, small.chains)

    def never(*args, **kwargs):
        raise AssertionError("made again")

    monkeypatch.setattr(packing_module, "pack_slots", never)
    again = cached_packing(small.graph, 5, folder=tmp_path)
    assert np.array_equal(again.chains, first.chains)
    assert [file.suffix for file in tmp_path.iterdir()] == [".npz"]
    other = WorkingGraph.perfect("zephyr", 2)
    with pytest.raises(AssertionError, match="made again"):
        cached_packing(other, 5, folder=tmp_path)


def graph_without(graph, qubits=(), couplers=()):
    """The graph as it is when these qubits and these couplers (by position) have died."""
    kept = np.isin(graph.couplers, qubits, invert=True).all(1)
    kept[list(couplers)] = False
    alive = graph.qubits[np.isin(graph.qubits, qubits, invert=True)]
    return WorkingGraph(graph.topology, graph.shape, alive, graph.couplers[kept], "later")


@pytest.mark.parametrize(("topology", "m"), [("zephyr", 3), ("pegasus", 4)])
def test_a_packing_is_repaired_where_it_was_hurt(topology, m, tmp_path, monkeypatch, caplog):
    graph = WorkingGraph.perfect(topology, m)
    whole = cached_packing(graph, 5, folder=tmp_path)
    # A qubit of slot 0, and the only coupler between two chains of slot 1.
    couplers = whole.logical_couplers
    alone = (couplers.share == 1) & (couplers.pair // 25 == 1)
    later = graph_without(
        graph, qubits=[whole.chains[0, 0, 0]], couplers=couplers.position[alone][:1]
    )
    anew = pack_cliques(later, 5)
    monkeypatch.setattr(packing_module, "pack_slots", None)
    with caplog.at_level("INFO", "qattn.hardware"):
        repaired = cached_packing(later, 5, folder=tmp_path)
    check_by_hand(repaired)
    assert repaired.graph.digest == later.digest
    assert repaired.num_slots >= anew.num_slots - 2
    assert repaired.num_slots >= whole.num_slots - 2
    assert "was repaired, " in caplog.text
    # What was not hurt is as it was, but for chains that free qubits lengthened.
    old = [
        {q for row in slot for q in row if q >= 0}
        for i, slot in enumerate(whole.chains.tolist())
        if i > 1
    ]
    new = [{q for row in slot for q in row if q >= 0} for slot in repaired.chains.tolist()]
    assert all(any(qubits <= found for found in new) for qubits in old)
    # Kept under the new graph's name: the next time it is only read.
    again = cached_packing(later, 5, folder=tmp_path)
    assert np.array_equal(again.chains, repaired.chains)


def test_a_graph_that_lost_much_is_packed_anew(small, tmp_path):
    first = small.chains[: small.num_slots // 5, 0]  # whole chains: these slots are gone
    assert repair_packing(small, graph_without(small.graph, qubits=first[first >= 0])) is None
    few = small.chains[:2, 0]
    assert repair_packing(small, graph_without(small.graph, qubits=few[few >= 0])) is not None


def test_user_cache_folder_is_the_default(small, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(packing_module, "pack_slots", lambda *args, **kwargs: small)
    cached_packing(small.graph, 5)
    (file,) = (tmp_path / "qattn" / "packings").iterdir()
    assert file.name.startswith("zephyr-3-4-perfect-")


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "foreign", "other graph", "overlap"])
def test_damaged_and_foreign_files_are_made_anew(small, tmp_path, monkeypatch, damage):
    monkeypatch.setattr(packing_module, "pack_slots", lambda *args, **kwargs: small)
    cached_packing(small.graph, 5, folder=tmp_path)
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    stored = dict(np.load(file))
    if damage == "empty":
        file.write_bytes(b"")
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "text":
        file.write_text("not a packing")
    else:
        changes = {
            "foreign": {"chains": np.zeros((1, 3, 1), np.int32)},
            "other graph": {"couplers": stored["couplers"][:-1]},
            "overlap": {"chains": stored["chains"][[0, 0]]},
        }
        np.savez(file, **stored | changes[damage])
    with pytest.warns(UserWarning, match=r"packing.* made anew"):
        found = cached_packing(small.graph, 5, folder=tmp_path)
    assert np.array_equal(found.chains, small.chains)
    assert np.array_equal(cached_packing(small.graph, 5, folder=tmp_path).chains, small.chains)


def test_a_file_without_slots_is_no_packing(small, tmp_path):
    file = tmp_path / "p.npz"
    save_packing(Packing(small.graph, np.empty((0, 5, 2), dtype=np.int32)), file)
    with pytest.raises(ValueError, match=r"is not a packing \(it has no slots\)"):
        load_packing(file, small.graph, Pattern(5))


def test_pickles_are_not_opened(small, tmp_path, monkeypatch):
    monkeypatch.setattr(packing_module, "pack_slots", lambda *args, **kwargs: small)
    cached_packing(small.graph, 5, folder=tmp_path)
    (file,) = tmp_path.iterdir()
    np.savez(file, **dict(np.load(file)) | {"chains": np.array([small], dtype=object)})
    with pytest.warns(UserWarning, match="made anew"):
        cached_packing(small.graph, 5, folder=tmp_path)


def test_folder_that_cannot_be_written(small, tmp_path, monkeypatch):
    monkeypatch.setattr(packing_module, "pack_slots", lambda *args, **kwargs: small)
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="another `folder`"):
        found = cached_packing(small.graph, 5, folder=tmp_path / "file")
    assert found is small


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_chosen_sets_are_disjoint_and_none_can_be_added(seed):
    rng = np.random.default_rng(seed)
    N = 30
    members = np.array([rng.permutation(N)[:4] for _ in range(80)], dtype=np.int32)
    members[rng.random(80) < 0.3, 3] = N
    neighbours = rng.integers(-1, N, (N, 5), dtype=np.int32)
    chosen = SetPacking(members, N, neighbours, seed=seed % 100).solve(5, 200)
    greedy = SetPacking(members, N, neighbours, seed=0).solve(0, 0)
    assert len(chosen) >= len(greedy)
    used = members[chosen][members[chosen] < N]
    assert len(used) == len(set(used.tolist()))
    assert np.isin(members, used).any(1).all()


def test_search_finds_what_the_greedy_choice_misses():
    """Dominoes that tile a board of 6 × 6: the search comes nearer to 18 than greed does."""
    cells = np.arange(36).reshape(6, 6)
    pairs = np.concatenate(
        [
            np.stack([cells[:, :-2], cells[:, 1:-1], cells[:, 2:]], -1).reshape(-1, 3),
            np.stack([cells[:-2], cells[1:-1], cells[2:]], -1).reshape(-1, 3),
        ]
    ).astype(np.int32)
    near = np.full((36, 4), -1, dtype=np.int32)
    for axis, step in enumerate((1, -1, 6, -6)):
        to = np.arange(36) + step
        fits = (to >= 0) & (to < 36) & ((np.abs(step) == 6) | (to // 6 == np.arange(36) // 6))
        near[fits, axis] = to[fits]
    rng = np.random.default_rng(0)
    pairs = pairs[rng.permutation(len(pairs))]
    assert len(SetPacking(pairs, 36, near, seed=1).solve(100, 1000)) == 12


def test_chains_are_lengthened_where_a_matching_exists():
    # Both slots' short chains reach qubit 6; only the second reaches 7 as well.
    neighbours = [[6], [], [], [6, 7], [], [], [0, 3], [3], []]
    slots = [[[0], [1, 2]], [[3], [4, 5]]]
    found = lengthen(slots, neighbours, {6, 7, 8})
    assert found == [[[0, 6], [1, 2]], [[3, 7], [4, 5]]]
    assert slots == [[[0], [1, 2]], [[3], [4, 5]]]
    # All or nothing: a slot that needs two and can have one stays as it is.
    assert lengthen([[[0], [3], [1, 2]]], neighbours, {6}) == [[[0], [3], [1, 2]]]


@pytest.mark.parametrize("seed", range(5))
def test_as_many_slots_are_served_as_the_largest_matching_has(seed):
    rng = np.random.default_rng(seed)
    adjacent = rng.random((60, 50)) < 0.04
    neighbours = {i: (200 + np.flatnonzero(adjacent[i])).tolist() for i in range(60)}
    neighbours |= {q: [] for q in range(1000, 1120)}
    slots = [[[i], [1000 + 2 * i, 1001 + 2 * i]] for i in range(60)]
    served = [slot[0] for slot in lengthen(slots, neighbours, set(range(200, 250)))]
    extra = [chain[1] for chain in served if len(chain) == 2]
    assert len(extra) == len(set(extra))
    assert all(q in neighbours[i] for i, *more in served for q in more)
    assert len(extra) == (maximum_bipartite_matching(csr_array(adjacent)) >= 0).sum()


@pytest.mark.slow
@pytest.mark.parametrize(("topology", "n"), CASES)
def test_full_size_processors(topology, n, tmp_path):
    graph = WorkingGraph.perfect(topology, *SIZES[topology])
    start = time.process_time()
    packing = cached_packing(graph, n, folder=tmp_path)
    search = time.process_time() - start
    assert search < 120
    start = time.process_time()
    cached_packing(graph, n, folder=tmp_path)
    assert time.process_time() - start < search / 20
    check_by_hand(packing)
    assert packing.num_slots >= MUST_SHOW[topology][n]
    assert packing.chains.shape[2] <= 3


@pytest.mark.slow
@pytest.mark.parametrize(("topology", "n"), CASES)
def test_full_size_processors_with_defects(topology, n):
    graph = WorkingGraph.perfect(topology, *SIZES[topology]).with_defects(0.05, 0.01, seed=1)
    start = time.process_time()
    packing = pack_cliques(graph, n)
    assert time.process_time() - start < 120
    check_by_hand(packing)
    assert packing.num_slots >= 0.6 * MUST_SHOW[topology][n]
