"""Packings of bands: valid whatever is dead, more than cliques, on disk, and shared by problems."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qattn.hardware.calls.plan import JobPlan
from qattn.hardware.doctor.cost import Workload, step_cost
from qattn.hardware.embedding import (
    Embedding,
    Packing,
    Pattern,
    WorkingGraph,
    best_packing,
    cached_packing,
    pack_cliques,
    pack_slots,
    packing_file,
)
from qattn.hardware.embedding.find_packing import repair_packing
from qattn.hardware.embedding.placement import place
from qattn.hardware.embedding.program import carrier_qubits
from qattn.layers import CouplingsAttention
from qattn.training import TrainConfig


def check_by_hand(packing, n, width, carrier):
    """Disjoint, connected, coupled, alive: with networkx, not with the code under test."""
    import networkx

    graph = packing.graph.to_networkx()
    seen = set()
    for rows in packing.chains.tolist():
        chains = [[q for q in row if q >= 0] for row in rows]
        assert len(chains) == n + carrier
        for chain in chains:
            assert chain
            assert all(graph.has_node(q) for q in chain)
            assert networkx.is_connected(graph.subgraph(chain))
            assert seen.isdisjoint(chain)
            seen.update(chain)
        for j in range(n):
            others = [chains[carrier + k] for k in range(max(0, j - width), j)]
            for other in [*others, *chains[:carrier]]:
                assert any(graph.has_edge(u, v) for u in chains[carrier + j] for v in other)


@pytest.fixture(scope="module")
def small():
    return pack_slots(WorkingGraph.perfect("zephyr", 3), Pattern(9, 2, 1))


@settings(max_examples=8)
@given(
    topology=st.sampled_from(["zephyr", "pegasus"]),
    n=st.sampled_from([6, 12, 26]),
    width=st.integers(1, 4),
    carrier=st.integers(0, 1),
    dead=st.tuples(st.floats(0, 0.15), st.floats(0, 0.05)),
    seed=st.integers(0, 1000),
)
def test_every_slot_is_an_embedding_over_random_defects(topology, n, width, carrier, dead, seed):
    graph = WorkingGraph.perfect(topology, 2 + (topology == "pegasus")).with_defects(
        *dead, seed=seed
    )
    packing = pack_slots(graph, Pattern(n + carrier, width, carrier))
    check_by_hand(packing, n, width, carrier)


@pytest.mark.parametrize(("topology", "n", "width"), [("zephyr", 9, 2), ("pegasus", 9, 2)])
def test_more_slots_than_cliques(topology, n, width):
    graph = WorkingGraph.perfect(topology, 3).with_defects(0.03, 0.01, seed=3)
    bands = pack_slots(graph, Pattern(n + 1, width, 1))
    assert bands.num_slots > pack_cliques(graph, n + 1).num_slots


@pytest.mark.parametrize("n", [12, 26])
def test_seed_fixes_the_packing(n):
    graph, pattern = WorkingGraph.perfect("zephyr", 3), Pattern(n + 1, 2, 1)
    one, again, other = (pack_slots(graph, pattern, seed=seed) for seed in (0, 0, 1))
    assert one.digest == again.digest
    assert one.digest != other.digest


def test_a_planted_error_is_found(small):
    graph, pairs = small.graph, small.pairs
    check_by_hand(small, 8, 2, 1)
    swapped = small.chains.copy()
    swapped[[0, -1], 4] = swapped[[-1, 0], 4]
    with pytest.raises(ValueError, match="coupler between every two chains"):
        Packing(graph, swapped, pairs)
    with pytest.raises(AssertionError):
        check_by_hand(small, 8, 7, 1)  # no clique
    lacking = np.delete(graph.couplers, small.logical_couplers.position, 0)
    with pytest.raises(ValueError, match="coupler between every two chains"):
        Packing(WorkingGraph("zephyr", (3, 4), graph.qubits, lacking, "cut"), small.chains, pairs)


def test_a_coupling_outside_the_band_is_not_lost(small):
    slots, n = small.chains.shape[:2]
    embedding, h = Embedding(small), np.zeros((slots, n))
    J = np.zeros((slots, n, n))
    J[0, 0, 7] = J[0, 4, 6] = 0.5
    assert embedding.embed(h, J, chain_strength=1.0).quadratic.max() > 0
    J[0, 4, 7] = 0.5  # at a distance of 3, where the width is 2
    with pytest.raises(ValueError, match="only pairs of the packing"):
        embedding.embed(h, J, chain_strength=1.0)
    unused = np.ones((slots, n), dtype=bool)
    unused[0, 7] = False
    embedding.embed(h, J, chain_strength=1.0, used=unused)


def test_what_is_a_band_and_what_a_clique():
    assert Pattern(5, 4) == Pattern(5)
    assert Pattern(6, 4, 1) == Pattern(6)
    assert Pattern(9, 0, 1) == Pattern(9, 1, 1)
    assert Pattern(6, 2, 1).name == "band5w2g"
    assert Pattern(5).name == "K5"
    assert len(Pattern(6, 2, 1).pairs) == 5 + 4 + 3


def test_bands_are_kept_and_repaired(small, tmp_path):
    pattern = Pattern(9, 2, 1)
    first = cached_packing(small.graph, pattern, folder=tmp_path)
    file = packing_file(small.graph, pattern, tmp_path)
    assert "-band8w2g-" in file.name
    assert cached_packing(small.graph, pattern, folder=tmp_path).digest == first.digest
    # The file of another width is not taken for this one's.
    file.rename(packing_file(small.graph, Pattern(9, 3, 1), tmp_path))
    with pytest.warns(UserWarning, match="made anew"):
        other = cached_packing(small.graph, Pattern(9, 3, 1), folder=tmp_path)
    check_by_hand(other, 8, 3, 1)
    # One slot loses its carrier.
    dead = small.chains[0, 0]
    alive = np.isin(small.graph.couplers, dead, invert=True).all(1)
    qubits = small.graph.qubits[np.isin(small.graph.qubits, dead, invert=True)]
    later = WorkingGraph("zephyr", (3, 4), qubits, small.graph.couplers[alive], "later")
    repaired = repair_packing(small, later, pattern)
    check_by_hand(repaired, 8, 2, 1)
    assert repaired.num_slots >= small.num_slots - 1


def test_cliques_are_taken_where_there_are_more(small, tmp_path, monkeypatch):
    assert best_packing(small.graph, Pattern(9, 2, 1), folder=tmp_path).pairs is not None
    from qattn.hardware.embedding import find_packing

    few = {Pattern(9, 2, 1): Packing(small.graph, small.chains[:1], small.pairs)}
    few[Pattern(9)] = pack_cliques(small.graph, 9)
    monkeypatch.setattr(find_packing, "cached_packing", lambda graph, pattern, folder: few[pattern])
    assert best_packing(small.graph, Pattern(9, 2, 1)).pairs is None


@pytest.mark.parametrize(("n", "dead", "seed"), [(26, 0.0, 0), (26, 0.15, 1), (30, 0.0, 2)])
def test_bands_that_fill_a_small_processor_are_found(n, dead, seed):
    """Those of 26 spins and a carrier take some 40 of its 128 qubits, in no part of it."""
    graph = WorkingGraph.perfect("pegasus", 3).with_defects(dead, dead / 2.5, seed=seed)
    check_by_hand(pack_slots(graph, Pattern(n + 1, 4, 1)), n, 4, 1)


def test_wide_bands_that_are_not_found_are_cliques(monkeypatch):
    from qattn.hardware.embedding import find_packing

    monkeypatch.setattr(find_packing, "slots_grown", lambda *arguments: [])
    packing = pack_slots(WorkingGraph.perfect("zephyr", 3), Pattern(25, 12, 1))
    check_by_hand(packing, 24, 12, 1)


def test_what_fits_nowhere_is_refused():
    with pytest.raises(ValueError, match="no bands of width 2 of 200 spins"):
        pack_slots(WorkingGraph.perfect("zephyr", 1), Pattern(200, 2))


@settings(max_examples=50)
@given(st.lists(st.integers(0, 9), max_size=40), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_problems_of_a_slot_share_the_carrier_and_nothing_else(own, slots, seed):
    """Biases lie where they should, and reads come back, as for slots of their own."""
    rng = np.random.default_rng(seed)
    own = np.array(own, dtype=np.int64)
    sizes = own + (own > 0)
    J = rng.normal(size=(len(sizes), 10, 10))
    J = np.triu(J, 1) + np.triu(J, 1).swapaxes(1, 2)
    placed = []
    for job in place(sizes, slots, 10, shared=1):
        _, couplings = job.scatter(np.zeros((len(sizes), 10)), J, slots, 10)
        used = job.used(slots, 10)
        assert used.sum() == (job.size - 1).sum() + len(set(job.slot.tolist()))
        for row, problem in enumerate(job.problem):
            at = [0, *range(job.offset[row] + 1, job.offset[row] + job.size[row])]
            expected = J[problem, : len(at), : len(at)]
            assert np.array_equal(couplings[job.slot[row]][np.ix_(at, at)], expected)
        values = rng.integers(1, 100, (slots, 10))
        gathered = job.gather(values, 10)
        assert np.array_equal(gathered[:, 0], values[job.slot, 0])
        placed.extend(job.problem.tolist())
        arrays = JobPlan(job, np.ones((slots, 10), np.int8), (1.0, 2.0)).to_arrays()
        assert JobPlan.from_arrays(arrays).placement.shared == 1
        arrays.pop("shared")  # as earlier versions wrote it
        assert JobPlan.from_arrays(arrays).placement.shared == 0
        chains = np.arange(slots * 10, dtype=np.int32).reshape(slots, 10, 1)
        qubits, _ = carrier_qubits(job, chains, np.ones((slots, 10), np.int8))
        assert set(qubits.tolist()) == {10 * slot for slot in job.slot.tolist()}
    assert sorted(placed) == np.flatnonzero(sizes).tolist()


@pytest.mark.parametrize(("content", "sequences"), [(False, 1), (True, 3)])
def test_problems_of_a_step_are_those_of_the_layer(content, sequences):
    """Without fields sequences have the same models, unless their couplings differ."""
    options = {"couplings": "banded", "content": content}
    training = TrainConfig(
        attention="couplings",
        context=5,
        layers=1,
        heads=2,
        batch_size=3,
        coupling_width=2,
        **options,
    )
    layer = CouplingsAttention(8, 2, context=5, width=2, **options)
    batch = layer.ising_batch(torch.randn(3, 5, 8))
    sizes = Workload(training).sizes
    assert len(sizes) == batch.num_groups * batch.num_queries == 2 * 5 * sequences


def test_the_cost_of_a_banded_training(small):
    """Eight queries of 1 to 8 spins fill 4.5 bands of 8; the carrier counts once for each slot."""
    training = TrainConfig(
        context=8, layers=1, heads=2, batch_size=1, couplings="banded", coupling_width=2
    )
    workload = Workload(training)
    assert workload.pattern == Pattern(9, 2, 1)
    qubits = []

    def access_time(num_qubits, params):
        qubits.append(num_qubits)
        return 1.0

    cost = step_cost(workload, small, access_time, annealing_time=5.0, max_reads=1000)
    assert (cost.problems, cost.jobs) == (16, 1)
    assert qubits == [int(small.chain_lengths[:9].sum())]  # nine slots, full
    least = step_cost(
        workload, len(small.graph.qubits), access_time, annealing_time=5.0, max_reads=1000
    )
    assert least.jobs == 1
    assert qubits[1] == 9 * 9
