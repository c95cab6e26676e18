"""Embedding and unembedding by index arrays, against dwave.embedding and against energies."""

from statistics import NormalDist

import dimod
import dwave.embedding
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qattn.hardware.embedding.embed import Embedding
from qattn.hardware.embedding.find_packing import pack_cliques
from qattn.hardware.embedding.working_graph import WorkingGraph

FIVE_SIGMA = 2 * NormalDist().cdf(-5.0)
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def embedding():
    """Seven spins to a slot, chains of one to three qubits, a graph with defects."""
    graph = WorkingGraph.perfect("pegasus", 4).with_defects(0.04, 0.02, seed=1)
    packing = pack_cliques(graph, 7, seed=2)
    assert packing.num_slots > 5
    assert len(np.unique(packing.chain_lengths)) > 1
    return Embedding(packing)


def biases(embedding, rng):
    slots, n = embedding.packing.num_slots, embedding.packing.num_spins
    J = np.triu(rng.normal(size=(slots, n, n)), 1)
    return rng.normal(size=(slots, n)), J + J.mT


def random_spins(embedding, num_reads, rng):
    packing = embedding.packing
    shape = (packing.num_slots, num_reads, packing.num_spins)
    return 2 * rng.integers(0, 2, shape, dtype=np.int8) - 1


def unbroken(embedding, spins):
    """Physical reads in which every qubit of a chain has its spin, 0 outside chains."""
    owner = embedding.packing.chain_of_qubit
    by_chain = spins.transpose(1, 0, 2).reshape(spins.shape[1], -1)
    return np.where(owner >= 0, by_chain[:, owner], 0).astype(np.int8)


def physical_energies(problem, reads):
    u, v = problem.embedding.packing.graph.coupler_ends.T
    pairs = reads[:, u].astype(float) * reads[:, v]
    return reads @ problem.linear + pairs @ problem.quadratic


def logical_energies(h, J, spins):
    s = spins.astype(float)
    return np.einsum("pj,prj->r", h, s) + np.einsum("prj,pjk,prk->r", s, J, s) / 2


@settings(max_examples=20)
@given(seed=seeds, gauged=st.booleans())
def test_unbroken_states_have_the_logical_energy_and_come_back(embedding, seed, gauged):
    rng = np.random.default_rng(seed)
    h, J = biases(embedding, rng)
    gauge = 2 * rng.integers(0, 2, h.shape, dtype=np.int8) - 1 if gauged else None
    problem = embedding.embed(h, J, chain_strength=1.5, gauge=gauge)
    spins = random_spins(embedding, 6, rng)
    programmed = spins if gauge is None else spins * gauge[:, None]
    reads = unbroken(embedding, programmed)
    constant = -1.5 * len(embedding.packing.chain_couplers)
    expected = logical_energies(h, J, spins) + constant
    assert physical_energies(problem, reads) == pytest.approx(expected, abs=1e-9)
    found = embedding.unembed(reads, gauge=gauge, rng=rng)
    assert np.array_equal(found.spins, spins)
    assert not found.broken.any()
    if gauge is not None:
        # Negative control: a gauge that is not undone is another state of another energy.
        assert not np.array_equal(embedding.unembed(reads, rng=rng).spins, spins)


@settings(max_examples=10)
@given(seed=seeds)
def test_gauges_leave_the_spectrum_alone(embedding, seed):
    """Whole chains flip: E of a read of the gauged problem is E of the flipped read."""
    rng = np.random.default_rng(seed)
    h, J = biases(embedding, rng)
    gauge = 2 * rng.integers(0, 2, h.shape, dtype=np.int8) - 1
    plain = embedding.embed(h, J, chain_strength=2.0)
    gauged = embedding.embed(h, J, chain_strength=2.0, gauge=gauge)
    N = len(embedding.packing.graph.qubits)
    reads = 2 * rng.integers(0, 2, (5, N), dtype=np.int8) - 1
    owner = embedding.packing.chain_of_qubit
    flips = np.where(owner >= 0, gauge.ravel()[owner], 1)
    expected = physical_energies(plain, reads)
    assert physical_energies(gauged, reads * flips) == pytest.approx(expected, abs=1e-9)
    assert np.abs(physical_energies(gauged, reads) - expected).min() > 1e-6


def test_agrees_with_dwave_embedding(embedding):
    rng = np.random.default_rng(3)
    h, J = biases(embedding, rng)
    packing = embedding.packing
    problem = embedding.embed(h, J, chain_strength=1.3)
    adjacency = packing.graph.to_networkx().adj
    linear, quadratic = {}, {}
    chains = []
    for slot, rows in enumerate(packing.chains):
        chains.append({j: tuple(row[row >= 0].tolist()) for j, row in enumerate(rows)})
        bqm = dimod.BQM.from_ising(
            dict(enumerate(h[slot])),
            {(j, k): J[slot, j, k] for j in range(7) for k in range(j)},
        )
        embedded = dwave.embedding.embed_bqm(bqm, chains[-1], adjacency, chain_strength=1.3)
        linear |= embedded.linear
        quadratic |= {tuple(sorted(edge)): bias for edge, bias in embedded.quadratic.items()}
    found = problem.to_dicts()
    assert found[0] == pytest.approx(linear)
    assert found[1] == pytest.approx(quadratic)
    assert all(type(q) is int for q in found[0])
    assert all(type(q) is int for edge in found[1] for q in edge)
    assert all(type(x) is float for part in found for x in part.values())

    owner = packing.chain_of_qubit
    reads = 2 * rng.integers(0, 2, (50, len(owner)), dtype=np.int8) - 1
    reads[:, owner < 0] = 0
    spins, broken = embedding.unembed(reads, rng=rng)
    used = np.flatnonzero(owner >= 0)
    answer = dimod.SampleSet.from_samples(
        (reads[:, used], packing.graph.qubits[used].tolist()), "SPIN", energy=0
    )
    for slot, chain in enumerate(chains):
        bqm = dimod.BQM.from_ising(dict.fromkeys(range(7), 0.0), {})
        theirs = dwave.embedding.unembed_sampleset(answer, chain, bqm)
        theirs = theirs.record.sample[:, np.argsort(list(theirs.variables))]
        # They give ties to +1, so only what is not +1 there or not tied here is compared.
        sums = np.stack(
            [reads[:, packing.graph.position_of_qubit(chain[j])].sum(1) for j in range(7)], 1
        )
        assert np.array_equal(spins[slot][sums != 0], theirs[sums != 0])
        lengths = packing.chain_lengths[slot]
        assert broken[slot] == pytest.approx((np.abs(sums) != lengths).mean(0))


def test_ties_are_broken_by_a_fair_coin(embedding):
    # Chains of two qubits that always disagree: N reads have N(1/2) up, standard error √N/2.
    packing = embedding.packing
    reads = np.zeros((4000, len(packing.graph.qubits)), dtype=np.int8)
    at = packing.graph.position_of_qubit(packing.chains[packing.chain_lengths == 2][:, :2])
    reads[:, at[:, 0]], reads[:, at[:, 1]] = 1, -1
    found = embedding.unembed(reads, rng=np.random.default_rng(4))
    pairs = packing.chain_lengths == 2
    assert np.array_equal(found.broken, pairs.astype(float))
    means = found.spins.mean(1, dtype=float)
    assert not means[~pairs].any()
    bound = -NormalDist().inv_cdf(FIVE_SIGMA / 2 / pairs.sum()) / np.sqrt(4000)
    assert np.abs(means[pairs]).max() < bound
    # A coin for each read and chain: neighbours in either direction do not go together.
    spins = found.spins.transpose(0, 2, 1)[pairs].astype(float)
    assert abs((spins[1:] * spins[:-1]).mean()) < 5 / np.sqrt(spins[1:].size)
    assert abs((spins[:, 1:] * spins[:, :-1]).mean()) < 5 / np.sqrt(spins[:, 1:].size)
    # Negative control: D-Wave's rule, ties up, is far outside.
    assert np.abs(np.ones_like(means[pairs])).max() > bound


def test_broken_rates_are_those_of_the_flips(embedding):
    """A chain of L qubits, each flipped with chance f, is broken with 1 - (1-f)^L - f^L."""
    rng = np.random.default_rng(5)
    packing = embedding.packing
    reads = unbroken(embedding, random_spins(embedding, 5000, rng))
    reads[rng.random(reads.shape) < 0.1] *= -1
    broken = embedding.unembed(reads, rng=rng).broken
    L = packing.chain_lengths
    expected = 1 - 0.9**L - 0.1**L
    bound = -NormalDist().inv_cdf(FIVE_SIGMA / 2 / L.size)
    error = np.sqrt(np.clip(expected * (1 - expected), 0, None) / 5000)
    assert (np.abs(broken - expected) <= bound * error + 1e-12).all()
    wrong = 1 - 0.88**L - 0.12**L
    assert (np.abs(broken - wrong) > bound * error).any()


def test_only_used_chains_are_programmed(embedding):
    rng = np.random.default_rng(6)
    h, J = biases(embedding, rng)
    packing = embedding.packing
    used = np.arange(7) < rng.integers(0, 8, (packing.num_slots, 1))
    problem = embedding.embed(h, J, chain_strength=1.0, used=used)
    owner = packing.chain_of_qubit
    assert np.array_equal(problem.active_qubits, (owner >= 0) & used.ravel()[owner])
    a, b = packing.chains_of_coupler.T
    alive = (a >= 0) & (b >= 0) & (a // 7 == b // 7) & used.ravel()[a] & used.ravel()[b]
    assert np.array_equal(problem.active_couplers, alive)
    assert not problem.linear[~problem.active_qubits].any()
    assert not problem.quadratic[~problem.active_couplers].any()
    full = embedding.embed(h, J, chain_strength=1.0)
    assert np.array_equal(problem.quadratic[alive], full.quadratic[alive])
    linear, quadratic = problem.to_dicts()
    assert len(linear) == problem.active_qubits.sum()
    assert len(quadratic) == alive.sum()
    # Biases of chains that are not used are not read.
    h[~used] = np.nan
    again = embedding.embed(h, J, chain_strength=1.0, used=used)
    assert np.array_equal(again.linear, problem.linear)

    spins = random_spins(embedding, 9, rng) * used[:, None]
    found = embedding.unembed(unbroken(embedding, spins), rng=rng)
    assert np.array_equal(found.spins, spins)
    assert not found.broken.any()


def test_no_reads_and_no_ties_draw_nothing(embedding):
    rng = np.random.default_rng(7)
    found = embedding.unembed(
        np.zeros((0, len(embedding.packing.graph.qubits)), dtype=np.int8), rng=rng
    )
    assert found.spins.shape == (embedding.packing.num_slots, 0, 7)
    assert not found.broken.any()
    embedding.unembed(unbroken(embedding, random_spins(embedding, 3, rng)), rng=rng)


def test_wrong_arguments_are_rejected(embedding, as_users_call):
    rng = np.random.default_rng(8)
    h, J = biases(embedding, rng)
    N = len(embedding.packing.graph.qubits)
    for arguments, message in (
        ({"h": h[:-1]}, "`h`"),
        ({"J": J[:, :-1]}, "`J`"),
        ({"gauge": np.ones(7, dtype=np.int8)}, "`gauge`"),
        ({"used": np.ones((1, 7), dtype=bool)}, "`used`"),
        ({"chain_strength": 0.0}, "chain_strength"),
        ({"chain_strength": np.inf}, "chain_strength"),
        ({"h": np.full_like(h, np.nan)}, "`h` must be finite"),
        ({"J": np.full_like(J, np.inf)}, "`J` must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            embedding.embed(**{"h": h, "J": J, "chain_strength": 1.0} | arguments)
    with pytest.raises(ValueError, match="`reads`"):
        embedding.unembed(np.ones((3, N - 1), dtype=np.int8), rng=rng)
    with pytest.raises(TypeError, match="int8"):
        embedding.unembed(np.ones((3, N)), rng=rng)
    with pytest.raises(ValueError, match="`gauge`"):
        embedding.unembed(np.ones((3, N), dtype=np.int8), gauge=np.ones(3, dtype=np.int8), rng=rng)


def test_no_field_is_minus_zero(embedding):
    """Ocean sends +0.0; under a gauge of -1 a field of 0 would have the other sign bit."""
    slots, n = embedding.packing.num_slots, embedding.packing.num_spins
    gauge = np.full((slots, n), -1, dtype=np.int8)
    problem = embedding.embed(
        np.zeros((slots, n)), np.zeros((slots, n, n)), chain_strength=1.0, gauge=gauge
    )
    assert not np.signbit(problem.linear).any()
