"""The emulator's physics: contraction, exact reads, noise, flux biases, simulated anneals."""

from itertools import product

import dimod
import numpy as np
import pytest
import torch
from _support.emulated import clique, pairs, sampler_of
from hypothesis import given, settings
from hypothesis import strategies as st

from qattn import IsingBatch
from qattn.exact import tree
from qattn.hardware.embedding.working_graph import WorkingGraph
from qattn.hardware.emulator import EmulatedQPU, EmulatorSettings
from qattn.hardware.emulator.physics import boltzmann as boltzmann_module
from qattn.hardware.emulator.physics.boltzmann import boltzmann_reads
from qattn.hardware.emulator.physics.device import H_PER_PHI0, EmulatedDevice
from qattn.hardware.emulator.physics.physical_problem import PhysicalProblem
from qattn.hardware.emulator.physics.spin_graph import MARGIN, SpinGraph
from qattn.hardware.emulator.protocol import histogram
from qattn.problems import edwards_anderson
from qattn.simulators.diabatic import DiabaticBackend

SIGMAS = 6.5
"""Bound of a normal deviate that 5 sigma becomes, with Bonferroni, over up to 10,000 values."""


def exact_distribution(a, ends, K):
    """Probabilities of all 2^n states in the order of itertools.product((-1, 1), repeat=n)."""
    states = np.array(list(product((-1, 1), repeat=len(a))))
    weights = np.exp(states @ a + (states[:, ends[:, 0]] * states[:, ends[:, 1]]) @ K)
    return states, weights / weights.sum()


def frequencies(spins):
    index = ((spins > 0) @ (1 << np.arange(spins.shape[1])[::-1])).astype(int)
    return np.bincount(index, minlength=1 << spins.shape[1]) / len(spins)


def sigmas_off(spins, probabilities):
    error = np.sqrt(np.maximum(probabilities * (1 - probabilities), 1e-9) / len(spins))
    return np.abs((frequencies(spins) - probabilities) / error).max()


def random_problem(n, seed, edges=None):
    rng = np.random.default_rng(seed)
    ends = np.array(edges or [(i, j) for i in range(n) for j in range(i + 1, n)])
    return rng.normal(0, 0.5, n), ends, rng.normal(0, 0.5, len(ends))


def test_reads_have_the_exact_distribution():
    # Two components of different sizes, and the sign of a coupling flipped as control.
    a, ends, K = random_problem(7, 0, [(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (5, 6), (3, 6)])
    spins = boltzmann_reads(a, ends, K, 40000, np.random.default_rng(1))
    _, probabilities = exact_distribution(a, ends, K)
    assert sigmas_off(spins, probabilities) < SIGMAS
    K[3] = -K[3]
    assert sigmas_off(spins, exact_distribution(a, ends, K)[1]) > SIGMAS


def test_contraction_leaves_the_distribution():
    """A chain of four, an antiferromagnetic pair, a pinned spin; then what is left is drawn."""
    edges = [(0, 1), (1, 2), (2, 3), (4, 5), (3, 4), (0, 5), (6, 0), (6, 4), (2, 7)]
    a, ends, K = random_problem(8, 2, edges)
    K[:3], K[3], a[6] = 24.0, -24.0, -26.0
    graph = SpinGraph.build(a, ends, K).without_followers()
    assert graph.num_spins == 3  # {0 to 3}, {4, 5}, 7; spin 6 became a field
    spins = boltzmann_reads(a, ends, K, 40000, np.random.default_rng(3))
    _, probabilities = exact_distribution(a, ends, K)
    assert sigmas_off(spins, probabilities) < SIGMAS


@given(seed=st.integers(0, 10**6), strong=st.integers(0, 6))
@settings(max_examples=60)
def test_contraction_keeps_differences_of_log_weights(seed, strong):
    """States of the contracted graph, expanded, differ by what the contracted weights say."""
    rng = np.random.default_rng(seed)
    a, ends, K = random_problem(9, seed)
    K[rng.choice(len(K), strong, replace=False)] *= 100
    a[rng.choice(9, strong // 3, replace=False)] *= 100
    graph = SpinGraph.build(a, ends, K).without_followers()
    spins = rng.choice([-1, 1], (2, graph.num_spins + 1))
    spins[:, -1] = 1
    expanded = spins[:, graph.vertex[:-1]] * graph.sign[:-1]
    whole = expanded @ a + (expanded[:, ends[:, 0]] * expanded[:, ends[:, 1]]) @ K
    u, v = graph.ends.T
    contracted = (spins[:, u] * spins[:, v]) @ graph.K
    assert whole[0] - whole[1] == pytest.approx(contracted[0] - contracted[1], abs=1e-9)


def test_a_spin_is_contracted_only_beyond_the_margin():
    ends, a = np.array([(0, 1), (1, 2)]), np.array([0.0, 0.0, 0.3])
    for strength, left in ((MARGIN + 0.59, 3), (MARGIN + 0.61, 2)):
        # Spin 1's other edge has 0.6, spin 0 has none: spin 0 follows as soon as its own does.
        a[0] = 0.6
        graph = SpinGraph.build(a, ends, np.array([strength, 0.6])).without_followers()
        assert graph.num_spins == left


def test_frustrated_strong_couplings_are_not_contracted():
    ends, K = np.array([(0, 1), (1, 2), (0, 2)]), np.array([30.0, 30.0, -30.0])
    a = np.array([0.2, -0.1, 0.3])
    spins = boltzmann_reads(a, ends, K, 20000, np.random.default_rng(0))
    assert sigmas_off(spins, exact_distribution(a, ends, K)[1]) < SIGMAS


def test_weak_chains_break_as_often_as_they_should():
    a, ends, K = np.zeros(2), np.array([(0, 1)]), np.array([1.5])
    spins = boltzmann_reads(a, ends, K, 40000, np.random.default_rng(0))
    broken, expected = (spins[:, 0] != spins[:, 1]).mean(), 1 / (1 + np.exp(3.0))
    assert abs(broken - expected) < 5 * np.sqrt(expected * (1 - expected) / 40000)


@pytest.mark.parametrize("exact_entries", [2, 1000])
def test_large_components_are_exact_where_sparse_and_come_from_sweeps_elsewhere(
    exact_entries, monkeypatch
):
    a, ends, K = random_problem(6, 4)
    monkeypatch.setattr(boltzmann_module, "EXACT_SPINS", 5)
    monkeypatch.setattr(boltzmann_module, "EXACT_ENTRIES", exact_entries)
    spins = boltzmann_reads(a, ends, 0.5 * K, 20000, np.random.default_rng(0))
    assert sigmas_off(spins, exact_distribution(a, ends, 0.5 * K)[1]) < SIGMAS
    assert sigmas_off(spins, exact_distribution(a, ends, 0.7 * K)[1]) > SIGMAS


def test_a_frozen_lattice_is_drawn_exactly():
    batch = edwards_anderson(1, size=6, couplings="gaussian", coupling=3.0, seed=2)
    ends = batch.J[0].triu().nonzero().numpy()
    K = batch.J[0][tuple(ends.T)].numpy()
    spins = boltzmann_reads(np.zeros(36), ends, K, 2000, np.random.default_rng(0))
    energy = -(K * spins[:, ends[:, 0]] * spins[:, ends[:, 1]]).sum(1)
    pairs = tree.moments(batch).pairs[0, 0].numpy()
    expected = -(K * pairs[tuple(ends.T)]).sum()
    assert abs(energy.mean() - expected) < SIGMAS * energy.std() / np.sqrt(2000)


def test_many_components_at_once_keep_their_own_moments():
    rng = np.random.default_rng(0)
    count, size = 60, 5
    inside = np.array([(i, j) for i in range(size) for j in range(i + 1, size)])
    ends = (np.arange(count)[:, None, None] * size + inside).reshape(-1, 2)
    a, K = rng.normal(0, 0.5, count * size), rng.normal(0, 0.5, len(ends))
    spins = boltzmann_reads(a, ends, K, 4000, rng)
    worst = 0.0
    for c in range(count):
        own = slice(c * size, (c + 1) * size)
        p = K[c * len(inside) : (c + 1) * len(inside)]
        states, probabilities = exact_distribution(a[own], inside, p)
        mean = probabilities @ states
        found = spins[:, own].mean(0)
        worst = max(worst, np.abs((found - mean) / np.sqrt((1 - mean**2) / 4000)).max())
    assert worst < SIGMAS


@pytest.mark.parametrize("rows", [1, 3])
def test_coupling_groups_are_oceans(rows):
    from dwave.system.coupling_groups import coupling_groups

    device = EmulatedDevice(
        WorkingGraph.perfect("zephyr", rows).with_defects(0.05, 0.02, 1), "emulated"
    )
    found = {}
    for (u, v), groups in zip(
        device.graph.couplers.tolist(), device.graph.coupling_groups.tolist(), strict=True
    ):
        for group in groups:
            found.setdefault(group, set()).add((u, v))
    theirs = coupling_groups(device.graph.to_networkx())
    expected = {frozenset(tuple(sorted(pair)) for pair in group) for group in theirs if group}
    assert set(map(frozenset, found.values())) == expected


def test_coupling_groups_of_pegasus_are_qubits():
    assert (
        EmulatedDevice(WorkingGraph.perfect("pegasus", 2), "emulated").graph.coupling_groups is None
    )


def test_qubo_conversion_energies_and_histogram():
    ends, couplers = np.array([(0, 1), (1, 2)]), np.array([0, 1])
    qubo = PhysicalProblem(
        np.arange(3), np.array([1.0, -2.0, 0.5]), couplers, ends, np.array([0.7, -1.1])
    )
    Q = {(0, 0): 1.0, (1, 1): -2.0, (2, 2): 0.5, (0, 1): 0.7, (1, 2): -1.1}
    h, J, _ = dimod.qubo_to_ising(Q)
    ising = qubo.qubo_as_ising()
    np.testing.assert_allclose(ising.h, [h[i] for i in range(3)])
    np.testing.assert_allclose(ising.J, [J[0, 1], J[1, 2]])
    states = np.array(list(product((0, 1), repeat=3)), dtype=np.int8)
    expected = dimod.BQM.from_qubo(Q).energies((states, range(3)))
    np.testing.assert_allclose(qubo.energies(states), expected)
    spins = (2 * states - 1)[[1, 1, 0, 7, 1]].astype(np.int8)
    rows, found, counts = histogram(spins, ising.energies(spins))
    assert sorted(counts) == [1, 1, 3]
    assert (np.diff(found) >= 0).all()
    np.testing.assert_array_equal(rows[counts == 3][0], spins[0])


@pytest.fixture(scope="module")
def noisy_qpus():
    """Isolated qubits under each kind of error."""
    kinds = {
        "clean": {},
        "noise": {"h_noise": 0.4},
        "offset": {"flux_offset": 0.4},
        "flips": {"readout_flip": 0.03},
        "drift": {"drift": 1000.0},
    }
    running = {}
    for name, changes in kinds.items():
        running[name] = EmulatedQPU(beta_h=2.0, beta_J=2.0, seed=5, **changes).start()
    yield running
    for qpu in running.values():
        qpu.stop()


def means(qpu, h, reads=2000, jobs=1, **options):
    """Mean spins of isolated qubits with field h, one row for each job."""
    with sampler_of(qpu) as sampler:
        rows = []
        for _ in range(jobs):
            answer = sampler.sample_ising(
                dict.fromkeys(sampler.nodelist, h),
                {},
                num_reads=reads,
                answer_mode="raw",
                auto_scale=False,
                annealing_time=1.0,
                **options,
            )
            rows.append(answer.record.sample.mean(0))
    return np.array(rows)


def test_control_noise_is_new_in_every_job(noisy_qpus):
    # 336 qubits; E m² = E tanh²(βε) + (1 - E tanh²)/reads, by Gauss-Hermite quadrature.
    x, w = np.polynomial.hermite_e.hermegauss(60)
    signal = float(w @ np.tanh(2.0 * 0.4 * x) ** 2 / w.sum())
    spread = float(w @ np.tanh(2.0 * 0.4 * x) ** 4 / w.sum()) - signal**2
    for name, correlation in (("noise", 0.0), ("offset", 1.0), ("clean", None)):
        first, second = means(noisy_qpus[name], 0.0, jobs=2)
        n = len(first)
        expected = signal + (1 - signal) / 2000
        error = 5 * np.sqrt((spread + 4 * signal / 2000) / n)
        right = abs(np.square(first).mean() - expected) < error
        assert right == (name != "clean")
        found = float(np.corrcoef(first, second)[0, 1])
        if correlation is not None:
            assert abs(found - correlation) < (5 / np.sqrt(n) if correlation == 0 else 0.02)


def test_noise_on_couplings_and_none_on_unused_ones():
    with (
        EmulatedQPU(beta_h=1.0, beta_J=1.0, J_noise=0.5) as qpu,
        sampler_of(qpu) as sampler,
    ):
        labels = clique(sampler)
        J = dict.fromkeys(pairs(labels), 0.0) | {tuple(labels[:2]): 0.3}
        found = []
        for _ in range(30):
            answer = sampler.sample_ising(
                dict.fromkeys(labels, 0.0),
                J,
                num_reads=2000,
                answer_mode="raw",
                auto_scale=False,
                annealing_time=1.0,
            )
            s = answer.record.sample.astype(float)
            found.append([(s[:, 0] * s[:, 1]).mean(), (s[:, 2] * s[:, 3]).mean()])
    # Without noise the spread over jobs is 1/sqrt(2000) = 0.022, and that of a standard deviation
    # over 30 jobs 13% of it.
    spread = np.std(found, axis=0, ddof=1)
    assert spread[0] > 5 * 0.0224
    assert spread[1] < 0.0224 * (1 + 5 * 0.131)


def test_readout_flips_have_their_rate(noisy_qpus):
    wrong = (1 + means(noisy_qpus["flips"], 4.0)) / 2  # β h = 8: up with probability 1e-7
    count = 2000 * wrong.shape[1]
    error = np.sqrt(0.03 * 0.97 / count)
    assert abs(wrong.mean() - 0.03) < 5 * error
    assert (means(noisy_qpus["clean"], 4.0) == -1).mean() > 0.99


def test_drift_grows_both_betas_job_by_job(noisy_qpus):
    rows = means(noisy_qpus["drift"], 0.3, jobs=2)
    for job, row in enumerate(rows):
        expected = -np.tanh(2.0 * (1 + job) * 0.3)
        error = np.sqrt((1 - expected**2) / (2000 * len(row)))
        assert abs(row.mean() - expected) < 5 * error
    assert abs(rows[0].mean() - rows[1].mean()) > 0.2


def test_drift_grows_beta_J_too():
    """Disjoint coupled pairs without fields: ⟨s s'⟩ = -tanh(β_J J), job by job."""
    J, reads, found = 0.3, 2000, []
    with EmulatedQPU(beta_h=2.0, beta_J=1.5, drift=1000.0) as qpu, sampler_of(qpu) as sampler:
        used, couplers = set(), []
        for u, v in sampler.edgelist:
            if not {u, v} & used:
                used |= {u, v}
                couplers.append((u, v))
        for _ in range(2):
            answer = sampler.sample_ising(
                {}, dict.fromkeys(couplers, J), num_reads=reads, answer_mode="raw", auto_scale=False
            )
            s = dict(zip(answer.variables, answer.record.sample.T.astype(float), strict=True))
            found.append(float(np.mean([(s[u] * s[v]).mean() for u, v in couplers])))
    for job, mean in enumerate(found):
        expected = -np.tanh(1.5 * (1 + job) * J)
        error = np.sqrt((1 - expected**2) / (reads * len(couplers)))
        assert abs(mean - expected) < 5 * error
    assert abs(found[1] - found[0]) > 0.2


def test_flux_biases_are_fields_of_opposite_sign(noisy_qpus):
    qpu = noisy_qpus["clean"]
    sites = qpu.properties["num_qubits"]
    options = {"fast_anneal": True}
    for bias in (1e-4, -2e-4):
        row = means(qpu, 0.0, flux_biases=[bias] * sites, **options)
        expected = -np.tanh(2.0 * H_PER_PHI0["zephyr"] * bias)
        assert np.sign(expected) == np.sign(bias)
        error = np.sqrt((1 - expected**2) / row.size / 2000)
        assert abs(row.mean() - expected) < 5 * error
        assert abs(row.mean() + expected) > 5 * error
    assert (means(qpu, 0.0, reads=500, flux_biases=[3e-3] * sites, **options) == 1).all()
    assert (means(qpu, 0.0, reads=500, flux_biases=[-3e-3] * sites, **options) == -1).all()


def test_published_flux_constant_is_that_of_ocean():
    from dwave.system.temperatures import fluxbias_to_h

    assert fluxbias_to_h(1.0, B=7.539, MAFM=0.514) == pytest.approx(H_PER_PHI0["zephyr"], rel=1e-3)
    assert fluxbias_to_h(1.0, B=3.5316, MAFM=1.554) == pytest.approx(
        H_PER_PHI0["pegasus"], rel=1e-3
    )


def test_simulated_anneal_of_chains_and_a_pinned_qubit():
    """A triangle of three spins, one of them a chain of two, and a field from a pinned qubit."""
    J = {}
    with (
        EmulatedQPU(schedule="linear", chain_threshold=-2.0) as qpu,
        sampler_of(qpu) as sampler,
    ):
        graph = sampler.to_networkx_graph()
        a, b, c, d = clique(sampler)
        pin = next(q for q in graph[c] if q not in (a, b, d) and not set(graph[q]) & {a, b, d})
        J = {(a, b): -2.0, (a, c): 0.1, (b, d): -0.15, (c, d): 0.2, (c, pin): 0.12}
        flux = [0.0] * qpu.properties["num_qubits"]
        flux[pin] = 3e-3
        answer = sampler.sample_ising(
            {},
            J,
            num_reads=10000,
            answer_mode="raw",
            auto_scale=False,
            fast_anneal=True,
            annealing_time=0.005,
            flux_biases=flux,
        )
        spins = dict(zip(answer.variables, answer.record.sample.T, strict=True))
        too_large = dict.fromkeys(sampler.edgelist[:60], 0.1)
        with pytest.raises(Exception, match="simulates anneals of up to 12 connected spins"):
            sampler.sample_ising({}, too_large, fast_anneal=True, annealing_time=0.005).resolve()
        with pytest.raises(Exception, match="anneals of up to 200 ns, but the job asks for 20000"):
            sampler.sample_ising({}, J, fast_anneal=True).resolve()
    assert (spins[pin] == 1).all()
    assert (spins[a] == spins[b]).all()
    found = np.stack([spins[d], spins[c], spins[a]], 1)  # bit 0 of a state is the last column
    h = torch.zeros(1, 1, 3, dtype=torch.float64)
    couplings = torch.zeros(1, 3, 3, dtype=torch.float64)
    h[0, 0, 1] = 0.12
    for (i, j), value in {(0, 1): 0.1, (0, 2): -0.15, (1, 2): 0.2}.items():
        couplings[0, i, j] = couplings[0, j, i] = value
    for time, right in ((5.0, True), (2.0, False)):
        backend = DiabaticBackend("linear", time, betas=(1.0, 1.0))
        probabilities = backend.probabilities(IsingBatch(-h, -couplings))[0, 0].numpy()
        # The integrators' own error, 1e-3 in total variation, is below one standard error here.
        assert (sigmas_off(found, probabilities) < SIGMAS) == right


def test_settings_out_of_range():
    for changes, message in (
        ({"beta_h": -1.0}, "`beta_h` must be finite and not negative, but is -1"),
        ({"readout_flip": 0.7}, "`readout_flip` must be between 0 and 0.5, but is 0.7"),
        ({"token": ""}, "`token` must not be empty"),
    ):
        with pytest.raises(ValueError, match=message):
            EmulatorSettings(**changes)
