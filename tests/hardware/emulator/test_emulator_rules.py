"""What a D-Wave processor refuses, the emulated one refuses; what it takes, it takes."""

import base64
import re

import dimod
import numpy as np
import pytest
from _support.emulated import sampler_of
from dwave.cloud.exceptions import SolverFailureError
from dwave.system.coupling_groups import coupling_groups

from qattn.hardware.emulator import EmulatedQPU
from qattn.hardware.emulator.physics.physical_problem import RejectedJobError
from qattn.hardware.emulator.protocol import decode_problem


@pytest.fixture(scope="module")
def qpu():
    with EmulatedQPU(beta_h=1.0, beta_J=1.0) as running:
        yield running


@pytest.fixture(scope="module")
def sampler(qpu):
    with sampler_of(qpu) as found:
        yield found


FAST = {"fast_anneal": True, "annealing_time": 0.005}
OFF = {"auto_scale": False}
REFUSED = [
    ({"h": 0.1}, FAST, "Linear biases (h) must be zero"),
    ({}, {"fast_anneal": True, "annealing_time": 0.004}, "Annealing time out of range: 0.004"),
    ({}, {"fast_anneal": True, "annealing_time": 2000.1}, "fast_anneal_time_range"),
    ({}, {"annealing_time": 0.4}, "not in [0.5, 2000] (annealing_time_range)"),
    ({}, FAST | {"anneal_schedule": [[0, 0], [1, 1]]}, "mutually exclusive"),
    (
        {},
        {"fast_anneal": True, "anneal_schedule": [[0, 0], [1, 0.5], [2, 1]]},
        "anneal_schedule must have 2 to 2 points, but has 3",
    ),
    ({}, {"anneal_schedule": [[0, 0], [5, 0.5], [4, 1]]}, "must rise from (0, 0) to s = 1"),
    ({}, {"anneal_schedule": [[0, 0], [5, 0.5]]}, "must rise from (0, 0) to s = 1"),
    ({}, {"anneal_schedule": [[0, 1], [5, 0.5], [9, 1]]}, "no model of reverse anneals"),
    ({}, {"anneal_schedule": "slowly"}, "must be a list of pairs"),
    ({}, FAST | {"h_gain_schedule": [[0, 0], [1, 1]]}, "cannot be used with fast_anneal"),
    ({}, FAST | {"initial_state": [1] * 336}, "cannot be used with fast_anneal"),
    ({}, {"h_gain_schedule": [[0, 0], [20, 1]]}, "no model of a time-dependent gain"),
    ({"h": 4.1}, OFF, "Linear bias (h) out of range: 4.1 not in [-4, 4]"),
    ({"h": -4.1}, OFF, "Linear bias (h) out of range: -4.1"),
    ({"J": 1.1}, OFF, "Coupling (J) out of range: 1.1 not in [-2, 1]"),
    ({"J": -2.1}, OFF, "Coupling (J) out of range: -2.1"),
    ({}, {"num_reads": 0}, "num_reads out of range: 0 not in [1, 10000]"),
    ({}, {"num_reads": 10001}, "num_reads out of range"),
    ({}, {"num_reads": 2.5}, "num_reads out of range: 2.5"),
    ({}, {"num_reads": 10000, "annealing_time": 2000}, "timing related parameters exceeded"),
    ({}, {"programming_thermalization": 10001}, "programming_thermalization out of range"),
    ({}, {"readout_thermalization": -1}, "readout_thermalization out of range"),
    ({}, {"answer_mode": "row"}, "Invalid answer_mode: 'row'"),
    ({}, {"max_answers": 0}, "max_answers out of range"),
    ({}, {"auto_scale": "no"}, "auto_scale must be a boolean"),
    ({}, {"flux_biases": [0.0] * 5}, "flux_biases must have 336 values, but has 5"),
    ({}, {"flux_biases": ["a"] * 336}, "flux_biases must be a list of numbers"),
    ({}, {"flux_biases": [0.0] * 336, "auto_scale": True}, "cannot be used with auto_scale"),
]


@pytest.mark.parametrize(("biases", "params", "message"), REFUSED)
def test_refused(qpu, sampler, biases, params, message):
    u, v = sampler.edgelist[0]
    spent = qpu.access_time_us
    answer = sampler.sample_ising(
        {u: biases.get("h", 0.0)}, {(u, v): biases.get("J", 0.1)}, **params
    )
    with pytest.raises(SolverFailureError, match=re.escape(message)):
        answer.resolve()
    assert qpu.access_time_us == spent
    assert qpu.jobs[-1].status == "FAILED"
    assert message in qpu.jobs[-1].error_message


TAKEN = [
    ({"J": -2.0}, FAST | OFF),
    ({"h": 40.0, "J": -70.0}, {}),
    ({"h": -4.0, "J": 1.0}, OFF),
    ({}, {"fast_anneal": True, "anneal_schedule": [[0, 0], [0.007, 1]]}),
    ({}, {"fast_anneal": True}),
    ({}, {"anneal_schedule": [[0, 0], [5, 0.5], [6, 0.5], [7, 1]]}),
    ({}, {"flux_biases": [0.0] * 336}),
    ({"h": 1.0}, {"flux_biases": [0.0] * 336, "auto_scale": False}),
    ({}, {"anneal_offsets": [0.0] * 336}),
    ({}, {"num_reads": 10000, "annealing_time": 1.0}),
    ({}, {"flux_drift_compensation": False, "reinitialize_state": True}),
]


@pytest.mark.parametrize(("biases", "params"), TAKEN)
def test_taken(qpu, sampler, biases, params):
    u, v = sampler.edgelist[0]
    h, J = {u: biases.get("h", 0.0)}, {(u, v): biases.get("J", 0.1)}
    answer = sampler.sample_ising(h, J, **params)
    assert answer.record.num_occurrences.sum() == params.get("num_reads", 1)
    expected = dimod.BQM.from_ising(h, J).energies(answer)
    np.testing.assert_allclose(answer.record.energy, expected)


def test_unknown_parameters_are_refused_by_the_service_too(qpu, sampler):
    solver = sampler.solver
    solver.parameters["x_new"] = ""
    try:
        with pytest.raises(SolverFailureError, match="Unknown parameter: x_new"):
            solver.sample_ising({sampler.nodelist[0]: 0.1}, {}, x_new=1).result()
    finally:
        del solver.parameters["x_new"]


def group_of(sampler):
    """A full group of couplers that share a limit: ten couplers of one qubit."""
    groups = [g for g in coupling_groups(sampler.to_networkx_graph()) if len(g) == 10]
    return [tuple(sorted(pair)) for pair in groups[0]]


def test_total_coupling_of_a_group(sampler):
    group = group_of(sampler)
    for value, message in ((-1.31, "-13.1 not in [-13, 10]"), (-1.29, None)):
        answer = sampler.sample_ising({}, dict.fromkeys(group, value), auto_scale=False)
        if message is None:
            answer.resolve()
        else:
            with pytest.raises(SolverFailureError, match=re.escape(message)):
                answer.resolve()
    # One coupler of the qubit's other group does not count.
    qubit = set(group[0]).intersection(*map(set, group)).pop()
    other = next(e for e in sampler.edgelist if qubit in e and e not in group)
    sampler.sample_ising({}, dict.fromkeys(group, -1.29) | {other: -2.0}, **OFF).resolve()


def test_total_coupling_of_a_pegasus_qubit():
    with EmulatedQPU(topology="pegasus", shape=(3,)) as qpu, sampler_of(qpu) as sampler:
        qubit, neighbours = max(sampler.adjacency.items(), key=lambda item: len(item[1]))
        even = -18 / len(neighbours)
        J = {(qubit, other): 0.99 * even for other in neighbours}
        sampler.sample_ising({}, J, auto_scale=False).resolve()
        J = {(qubit, other): 1.01 * even for other in neighbours}
        with pytest.raises(SolverFailureError, match=re.escape("not in [-18, 15]")):
            sampler.sample_ising({}, J, auto_scale=False).resolve()


@pytest.mark.parametrize(
    ("h", "J", "factor"),
    [(0.4, 0.01, 0.1), (0.1, 0.5, 0.5), (-8.0, 0.1, 2.0), (0.1, -1.0, 0.5), (0.0, 0.0, 1.0)],
)
def test_auto_scale_divides_by_the_largest_ratio(sampler, h, J, factor):
    """Two qubits at β = 1: ⟨s⟩ of the scaled problem, in closed form."""
    u, v = sampler.edgelist[0]
    answer = sampler.sample_ising(
        {u: h, v: 0.0}, {(u, v): J}, num_reads=10000, annealing_time=1.0, answer_mode="raw"
    )
    s = answer.record.sample.astype(float)
    product = s[:, 0] * s[:, 1]
    for found, expected in (
        (s[:, answer.variables.index(u)].mean(), -np.tanh(h / factor)),
        (product.mean(), -np.tanh(J / factor)),
    ):
        assert abs(found - expected) < 5 * np.sqrt(max(1 - expected**2, 1e-5) / 10000) + 1e-3


def test_auto_scale_heeds_the_total_coupling_of_a_group(sampler):
    group = group_of(sampler)
    answer = sampler.sample_ising(
        {}, dict.fromkeys(group, -1.9), num_reads=10000, annealing_time=1.0, answer_mode="raw"
    )
    # 10 couplings of -1.9 are 19 > 13: each becomes -1.3, not -1.9 / 0.95 = -2. The couplings
    # form a star, so each pair has its own tanh.
    index = [[answer.variables.index(q) for q in pair] for pair in group]
    s = answer.record.sample.astype(float)
    found = np.mean([(s[:, i] * s[:, j]).mean() for i, j in index])
    expected = np.tanh(1.3)
    assert abs(found - expected) < 5 * np.sqrt((1 - expected**2) / 100000)
    assert abs(found - np.tanh(2.0)) > 5 * np.sqrt((1 - expected**2) / 100000)


def test_malformed_problems(qpu):
    graph = qpu.graph
    nan = np.full(len(graph.qubits), np.nan)
    nan[0] = 1.0

    def encode(values):
        return base64.b64encode(np.asarray(values, dtype="<f8").tobytes()).decode()

    right = {"format": "qp", "lin": encode(nan), "quad": "", "offset": 0}
    problem = decode_problem(right, graph)
    assert (problem.num_qubits, problem.h.tolist(), len(problem.J)) == (1, [1.0], 0)
    infinite = nan.copy()
    infinite[0] = np.inf
    for changes, message in (
        ({"format": "bq"}, "Unsupported problem format"),
        ({"lin": encode(nan[:-1])}, "335 linear terms, but the solver has 336"),
        ({"quad": encode([1.0])}, "1 quadratic terms, but the solver has 0"),
        ({"lin": encode(infinite)}, "not finite"),
        ({"lin": "***"}, "'lin' is not base64"),
        ({"quad": "AAAA"}, "'quad' is not base64-encoded doubles"),
    ):
        with pytest.raises(RejectedJobError, match=message):
            decode_problem(right | changes, graph)


def test_requests_that_are_no_jobs(qpu):
    import requests

    headers = {"X-Auth-Token": qpu.token}
    identity = {"name": qpu.name, "version": {"graph_id": qpu.graph_id}}
    jobs = [
        {},
        {"data": {}, "solver": {"name": "other"}, "type": "ising"},
        {"data": {}, "solver": identity, "type": "bqm"},
    ]
    before = len(qpu.jobs)
    response = requests.post(qpu.endpoint + "problems/", json=jobs, headers=headers)
    assert [item["error_code"] for item in response.json()] == [400, 404, 400]
    response = requests.post(qpu.endpoint + "problems/", data=b"{", headers=headers)
    assert response.status_code == 400
    for path, status in (
        ("problems/unknown/", 404),
        ("problems/?id=unknown", 404),
        ("solvers/remote/other", 404),
        ("elsewhere", 404),
        ("problems/?label=x&max_results=many", 400),
    ):
        assert requests.get(qpu.endpoint + path, headers=headers).status_code == status
    found = requests.delete(qpu.endpoint + "problems/", json=["unknown"], headers=headers).json()
    assert found[0]["error_code"] == 404
    assert len(qpu.jobs) == before


def test_solver_definitions_are_filtered_and_not_cached(qpu):
    import requests

    headers = {"X-Auth-Token": qpu.token}
    for path in ("solvers/remote/", f"solvers/remote/{qpu.name}"):
        wanted = {"filter": "none,+identity.name,+properties.num_qubits"}
        response = requests.get(qpu.endpoint + path, params=wanted, headers=headers)
        found = response.json()
        expected = {"identity": {"name": qpu.name}, "properties": {"num_qubits": 336}}
        assert found == (expected if path.endswith(qpu.name) else [expected])
        assert response.headers["Cache-Control"] == "no-store"
    wanted = {"filter": "all,-properties.couplers"}
    found = requests.get(qpu.endpoint + "solvers/remote/", params=wanted, headers=headers).json()
    assert "couplers" not in found[0]["properties"]
    assert found[0]["status"] == "ONLINE"
    assert "couplers" in qpu.properties
