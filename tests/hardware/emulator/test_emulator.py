"""Ocean's unmodified client samples from the emulated QPU what it was set to."""

import base64
import logging
import time

import dimod
import numpy as np
import pytest
from _support.emulated import clique, deviation, pairs, sampler_of
from dwave.cloud import Client
from dwave.cloud.api.resources import Problems
from dwave.cloud.exceptions import SolverAuthenticationError, SolverNotFoundError

from qattn.hardware.embedding.working_graph import WorkingGraph
from qattn.hardware.emulator import EmulatedQPU

BETA_H, BETA_J = 1.0, 1.6


@pytest.fixture(scope="module")
def qpu():
    with EmulatedQPU(beta_h=BETA_H, beta_J=BETA_J) as running:
        yield running


@pytest.fixture(scope="module")
def sampler(qpu):
    with sampler_of(qpu) as found:
        yield found


@pytest.fixture(scope="module")
def problem(sampler):
    rng = np.random.default_rng(1)
    labels = clique(sampler)
    h = dict(zip(labels, rng.normal(0, 0.5, 4), strict=True))
    return labels, h, {pair: rng.normal(0, 0.3) for pair in pairs(labels)}


@pytest.fixture(scope="module")
def sampled(sampler, problem):
    _, h, J = problem
    answer = sampler.sample_ising(
        h, J, num_reads=10000, answer_mode="raw", auto_scale=False, annealing_time=1.0
    )
    answer.resolve()
    return answer


@pytest.mark.parametrize(
    ("betas", "agrees"),
    [
        ((BETA_H, BETA_J), True),
        ((BETA_H, BETA_H), False),
        ((BETA_J, BETA_J), False),
        ((BETA_H, -BETA_J), False),
    ],
)
def test_moments_are_those_of_both_betas(sampled, problem, betas, agrees):
    # 10,000 independent reads of 4 spins, 10 moments at 5 sigma with Bonferroni; the wrong betas
    # are off by 0.05 and more in some moment, 5 standard errors.
    sigmas, bound = deviation(sampled, *problem, *betas)
    assert (sigmas <= bound) == agrees


def test_energies_and_sign_of_labels(sampled, problem):
    _, h, J = problem
    bqm = dimod.BQM.from_ising(h, J)
    np.testing.assert_allclose(sampled.record.energy, bqm.energies(sampled), atol=1e-12)


def test_offset_stays_with_the_client(sampler):
    u = sampler.nodelist[0]
    bqm = dimod.BQM({u: 1.0}, {}, 7.0, "SPIN")
    answer = sampler.sample(bqm, num_reads=5, auto_scale=False)
    np.testing.assert_allclose(answer.record.energy, bqm.energies(answer))


def test_chains_do_not_break_and_follow_their_program(sampler, problem):
    """Extended J of -2 at β_J = 11: two pairs of qubits become two spins."""
    a, b, c, d = problem[0]
    with EmulatedQPU(beta_h=0.0, beta_J=11.0) as cold, sampler_of(cold) as cold_sampler:
        J = {(a, b): -2.0, (c, d): -2.0, (a, c): 0.03, (b, d): 0.03}
        answer = cold_sampler.sample_ising(
            {}, J, num_reads=10000, answer_mode="raw", auto_scale=False, annealing_time=1.0
        )
        spins = dict(zip(answer.variables, answer.record.sample.T, strict=True))
    assert (spins[a] == spins[b]).all()
    assert (spins[c] == spins[d]).all()
    mean, expected = (spins[a] * spins[c]).mean(), -np.tanh(11.0 * 0.06)
    error = np.sqrt((1 - expected**2) / 10000)
    assert abs(mean - expected) < 5 * error
    assert abs(mean + expected) > 5 * error


def test_histogram_is_the_default_and_sorted_by_energy(sampler, problem):
    _, h, J = problem
    raw, counted = (
        sampler.sample_ising(h, J, num_reads=200, auto_scale=False, **mode)
        for mode in ({"answer_mode": "raw"}, {})
    )
    assert len(raw) == 200
    assert (raw.record.num_occurrences == 1).all()
    assert len(counted) <= 16
    assert counted.record.num_occurrences.sum() == 200
    assert counted.record.num_occurrences.max() > 1
    assert (np.diff(counted.record.energy) >= 0).all()
    assert len(np.unique(counted.record.sample, axis=0)) == len(counted)


def test_defaults_are_one_read_and_auto_scale(sampler, qpu):
    u, v = sampler.edgelist[0]
    assert len(sampler.sample_ising({u: 0.1}, {(u, v): 0.1}).record) == 1
    # Scaled up by 10, to |h| = 4: magnetisation tanh(4) with β_h = 1, not tanh(0.4).
    answer = sampler.sample_ising({u: -0.4}, {}, num_reads=2000)
    mean = float(answer.record.sample[:, 0] @ answer.record.num_occurrences) / 2000
    assert mean > 0.99


def test_max_answers(sampler, problem):
    _, h, J = problem
    raw = sampler.sample_ising(h, J, num_reads=50, max_answers=7, answer_mode="raw")
    best = sampler.sample_ising(h, J, num_reads=50, max_answers=2)
    assert (len(raw), len(best)) == (7, 2)


def test_qubo(sampler, problem):
    labels = problem[0]
    Q = {(labels[0], labels[0]): -1.0, (labels[1], labels[1]): 0.5, (labels[0], labels[1]): 0.7}
    answer = sampler.sample_qubo(Q, num_reads=10000, auto_scale=False, annealing_time=1.0)
    np.testing.assert_allclose(answer.record.energy, dimod.BQM.from_qubo(Q).energies(answer))
    h, J, _ = dimod.qubo_to_ising(Q)
    spins = dimod.SampleSet.change_vartype(answer, "SPIN", inplace=False)
    sigmas, bound = deviation(spins, labels[:2], h, J, BETA_H, BETA_J)
    assert sigmas <= bound
    assert deviation(spins, labels[:2], {}, J, BETA_H, BETA_J).sigmas > bound


def test_equal_seeds_give_equal_reads_in_the_order_of_acceptance(problem):
    _, h, J = problem
    found = []
    for seed in (3, 3, 4):
        with EmulatedQPU(seed=seed, beta_h=0.1, beta_J=0.1) as one, sampler_of(one) as sampler:
            for _ in range(2):
                answer = sampler.sample_ising(h, J, num_reads=40, answer_mode="raw")
                found.append(answer.record.sample.tobytes())
    assert found[:2] == found[2:4]
    assert len(set(found)) == 4


def test_solver_is_said_to_be_emulated(sampler, qpu):
    assert "emulated" in sampler.solver.name.lower()
    assert sampler.properties["emulated"] is True
    assert "emulated" in sampler.properties["tags"]
    assert sampler.properties["category"] == "qpu"
    with pytest.raises(ValueError, match="must hold the word 'emulated'"):
        EmulatedQPU(name="Advantage2_system1")


@pytest.mark.parametrize(("topology", "shape"), [("zephyr", (3, 4)), ("pegasus", (3,))])
def test_dead_qubits_and_couplers_are_absent(topology, shape):
    perfect = WorkingGraph.perfect(topology, *shape)
    options = {"topology": topology, "shape": shape, "dead_qubits": 0.1, "dead_couplers": 0.05}
    with EmulatedQPU(**options) as qpu, sampler_of(qpu) as sampler:
        assert len(sampler.nodelist) == len(perfect.qubits) - round(0.1 * len(perfect.qubits))
        assert set(sampler.nodelist) < set(perfect.qubits.tolist())
        found = WorkingGraph.from_properties(sampler.properties, sampler.solver.graph_id)
        assert found.digest == qpu.graph.digest
        assert found.graph_id == qpu.graph_id
        answer = sampler.sample_ising({}, dict.fromkeys(sampler.edgelist, 0.01), num_reads=2)
        assert set(answer.variables) == set(np.unique(sampler.edgelist))


def test_recalibration_changes_the_graph_id_and_is_seen_on_the_same_port(qpu):
    with EmulatedQPU() as one:
        with sampler_of(one) as before:
            old = one.graph_id
            new = one.recalibrate()
            lost = set(before.nodelist) - set(one.graph.qubits.tolist())
            assert len(lost) == 1
            assert not (one.graph.couplers == lost.pop()).any()
            with pytest.raises(Exception, match="another version of its graph"):
                before.sample_ising({before.nodelist[0]: 1.0}, {}).resolve()
        with sampler_of(one) as after:
            assert after.solver.graph_id == new != old
            assert len(after.nodelist) == len(one.graph.qubits)


def test_offline_at_selection():
    with EmulatedQPU() as one:
        one.online = False
        with pytest.raises(SolverNotFoundError), sampler_of(one):
            pass


def test_timing_adds_up_and_deviates_within_the_spread(qpu, sampler, problem):
    _, h, J = problem
    options = {"num_reads": 300, "annealing_time": 5.0}
    predicted = sampler.solver.estimate_qpu_access_time(4, **options)
    ratios = []
    for _ in range(20):
        timing = sampler.sample_ising(h, J, **options).info["timing"]
        parts = ("anneal", "readout", "delay")
        per_read = sum(timing[f"qpu_{part}_time_per_sample"] for part in parts)
        assert timing["qpu_sampling_time"] == pytest.approx(300 * per_read, abs=0.011)
        total = timing["qpu_sampling_time"] + timing["qpu_programming_time"]
        assert timing["qpu_access_time"] == pytest.approx(total, abs=0.011)
        ratios.append(timing["qpu_access_time"] / predicted)
        assert qpu.jobs[-1].access_time_us == timing["qpu_access_time"]
    assert 0.98 < min(ratios) < 0.9995
    assert 1.0005 < max(ratios) < 1.02


def test_timing_without_spread_is_oceans_estimate():
    for topology, shape in (("zephyr", (3, 4)), ("pegasus", (3,))):
        with (
            EmulatedQPU(topology=topology, shape=shape, timing_spread=0.0) as one,
            sampler_of(one) as sampler,
        ):
            J = dict.fromkeys(sampler.edgelist[:40], 0.1)
            used = len(np.unique(list(J)))
            for options in (
                {"num_reads": 7},
                {"readout_thermalization": 3.0, "num_reads": 2},
                {"reduce_intersample_correlation": True, "annealing_time": 5.0},
            ):
                timing = sampler.sample_ising({}, J, **options).info["timing"]
                estimate = sampler.solver.estimate_qpu_access_time(used, **options)
                assert timing["qpu_access_time"] == pytest.approx(estimate, abs=0.1)


def test_account_lookup_and_retrieval(sampler, qpu, problem):
    _, h, J = problem
    before = len(qpu.jobs)
    spent = qpu.access_time_us
    answers = [
        sampler.sample_ising(h, J, num_reads=5, label=f"lookup-{i % 2}", answer_mode="raw")
        for i in range(4)
    ]
    ids = [answer.info["problem_id"] for answer in answers]
    jobs = {job.id: job for job in qpu.jobs[before:]}
    assert set(jobs) == set(ids)
    assert {jobs[id_].label for id_ in ids[::2]} == {"lookup-0"}
    assert all(
        (job.num_reads, job.num_qubits, job.status) == (5, 4, "COMPLETED") for job in jobs.values()
    )
    assert all(job.times_answered == 1 for job in jobs.values())
    time = sum(answer.info["timing"]["qpu_access_time"] for answer in answers)
    assert qpu.access_time_us == pytest.approx(spent + time)

    with Problems.from_config(sampler.client.config) as problems:
        found = problems.list_problems(label="lookup-1")
        order = [job.id for job in reversed(qpu.jobs) if job.label == "lookup-1"]
        assert [status.id for status in found] == order  # newest first
        assert len(problems.list_problems(label="lookup-1", max_results=1)) == 1
        assert problems.list_problems(label="nothing") == []
        assert problems.get_problem_status(ids[0]).status == "COMPLETED"
        assert problems.get_problem(ids[0]).answer.num_variables == qpu.properties["num_qubits"]

    again = sampler.client.retrieve_answer(ids[0])
    expected = answers[0].record.sample
    np.testing.assert_array_equal(again.sampleset.record.sample, expected)
    assert jobs[ids[0]].times_answered == 1
    assert next(job for job in qpu.jobs if job.id == ids[0]).times_answered == 3


def test_cancel_before_it_starts(sampler, qpu):
    u = sampler.nodelist[0]
    qpu.fault("job", "pending", seconds=60.0)
    future = sampler.solver.sample_ising({u: 1.0}, {}, label="to cancel")
    future.wait_id()
    future.cancel()
    with pytest.raises(Exception, match="cancel"):
        future.result()
    job = next(job for job in qpu.jobs if job.label == "to cancel")
    assert (job.status, job.access_time_us) == ("CANCELLED", 0.0)


def test_every_request_needs_the_token(qpu):
    import requests

    for method, path in (
        ("get", "solvers/remote/"),
        ("get", "problems/?label=x"),
        ("post", "problems/"),
        ("delete", "problems/"),
        ("get", "elsewhere"),
    ):
        for headers in ({}, {"X-Auth-Token": "wrong"}):
            response = requests.request(method, qpu.endpoint + path, headers=headers, json=[])
            assert response.status_code == 401
            assert qpu.token not in response.text
            assert len(response.content) < 100
    with pytest.raises(SolverAuthenticationError), sampler_of(qpu, token="wrong"):
        pass


def test_only_the_loopback_interface_is_served(qpu):
    assert qpu.endpoint.startswith("http://127.0.0.1:")
    assert qpu._api is not None
    assert qpu._server.server_address[0] == "127.0.0.1"


def test_token_is_in_no_repr_and_no_log(caplog):
    with caplog.at_level(logging.DEBUG, logger="qattn"):
        with EmulatedQPU() as one, sampler_of(one) as sampler:
            sampler.sample_ising({sampler.nodelist[0]: 1.0}, {}).resolve()
            token = one.token
            seen = [repr(one), repr(one.settings), repr(one.jobs), repr(one._api)]
            with pytest.raises(SolverAuthenticationError), sampler_of(one, token=token + "x"):
                pass
        own = [r.getMessage() for r in caplog.records if r.name.startswith("qattn")]
    assert any("POST /sapi/v2/problems/" in line for line in own)
    assert not any(token in text for text in (*own, *seen))


def test_uncompressed_and_plain_clients_are_served(qpu):
    options = qpu.client_options | {"compress_qpu_problem_data": False}
    with Client.from_config(config_file=False, **options) as client:
        solver = client.get_solver()
        result = solver.sample_ising({solver._encoding_qubits[0]: -4.0}, {}, num_reads=3)
        assert sum(result.num_occurrences) == 3


def test_a_qpu_is_started_once(qpu):
    with pytest.raises(RuntimeError, match="started already"):
        qpu.start()
    done = EmulatedQPU()
    with pytest.raises(RuntimeError, match="not running"):
        _ = done.endpoint
    with done:
        pass
    with pytest.raises(RuntimeError, match="started already"):
        done.start()


def test_many_jobs_in_flight_from_several_clients(qpu, problem):
    """Nothing is lost or mixed up; a poll returns as soon as one job has ended."""
    labels = problem[0]
    before = len(qpu.jobs)
    with sampler_of(qpu) as one, sampler_of(qpu) as other:
        answers = []
        for i in range(60):
            sampler = (one, other)[i % 2]
            qubit = labels[i % 4]
            value = -4.0 if i % 3 else 4.0
            answers.append(
                (qubit, -value, sampler.sample_ising({qubit: value}, {}, label=f"flight-{i}"))
            )
        for i, (qubit, _, answer) in enumerate(answers):
            assert answer.variables == [qubit]
            assert answer.info["problem_label"] == f"flight-{i}"
        # Auto-scaled to β h = 4: wrong once in 3,000 reads.
        right = [answer.record.sample.item() == np.sign(value) for _, value, answer in answers]
    assert sum(right) >= 57
    jobs = qpu.jobs[before:]
    assert {job.label for job in jobs} == {f"flight-{i}" for i in range(60)}
    assert len(jobs) == 60


def test_bodies_in_chunks_and_compressed(qpu):
    import gzip
    import json
    import zlib

    import requests

    graph = qpu.graph
    lin = np.full(len(graph.qubits), np.nan)
    lin[0] = 1.0
    data = {"format": "qp", "lin": base64.b64encode(lin.tobytes()).decode(), "quad": ""}
    identity = {"name": qpu.name, "version": {"graph_id": qpu.graph_id}}
    body = json.dumps([{"data": data, "solver": identity, "type": "ising", "params": {}}]).encode()
    headers = {"X-Auth-Token": qpu.token}
    for encoding, sent in (
        ("gzip", gzip.compress(body)),
        ("deflate", zlib.compress(body)),
        ("deflate", iter([zlib.compress(body)[:50], zlib.compress(body)[50:]])),
        ("identity", iter([body[:100], body[100:]])),
    ):
        response = requests.post(
            qpu.endpoint + "problems/",
            data=sent,
            headers=headers | {"Content-Encoding": encoding},
        )
        assert response.json()[0]["status"] == "PENDING"


def test_a_poll_is_held_open_until_a_job_ends(qpu, sampler):
    import requests

    qpu.fault("job", "pending", seconds=6.0)
    future = sampler.solver.sample_ising({sampler.nodelist[0]: 1.0}, {})
    future.wait_id()
    seen = []
    for timeout in (1, 30):
        start = time.monotonic()
        found = requests.get(
            qpu.endpoint + "problems/",
            params={"id": future.id, "timeout": timeout},
            headers={"X-Auth-Token": qpu.token},
        ).json()
        seen.append((found[0]["status"], time.monotonic() - start))
    (first, short), (last, long) = seen
    assert (first, last) == ("PENDING", "COMPLETED")
    assert 1 <= short < 5
    assert long < 25
    future.result()
