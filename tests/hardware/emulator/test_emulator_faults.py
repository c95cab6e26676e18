"""Each fault of the emulated service ends in the exception that Ocean's client has for it."""

import time

import pytest
import requests
from _support.emulated import sampler_of
from dwave.cloud import exceptions
from dwave.cloud.api import exceptions as api_exceptions

from qattn.hardware.emulator import EmulatedQPU, Fault
from qattn.hardware.emulator.faults import FaultQueue


@pytest.fixture(scope="module")
def qpu():
    with EmulatedQPU() as running:
        yield running


@pytest.fixture(scope="module")
def sampler(qpu):
    with sampler_of(qpu) as found:
        yield found


@pytest.fixture(autouse=True)
def _no_faults_left(qpu):
    yield
    qpu.clear_faults()


def sample(sampler):
    return sampler.sample_ising({}, {sampler.edgelist[0]: -1.0}, num_reads=3)


BROKEN = requests.exceptions.ConnectionError
CUT = requests.exceptions.ChunkedEncodingError
BAD_TOKEN = exceptions.SolverAuthenticationError
NO_API = exceptions.InvalidAPIResponseError

# where, kind, exception or None if the client gets over it, jobs accepted, exact type
MATRIX = [
    ("submit", 401, BAD_TOKEN, 0),
    ("submit", 429, exceptions.SolverError, 0),
    ("submit", 500, exceptions.SolverError, 0),
    ("submit", 503, exceptions.SolverError, 0),
    ("submit", "503-after", exceptions.SolverError, 1),
    ("submit", "drop", BROKEN, 0),
    ("submit", "drop-after", BROKEN, 1),
    ("submit", "truncated", CUT, 1),
    ("submit", "corrupt", NO_API, 1),
    ("submit", "version", NO_API, 1),
    ("submit", "rejected", exceptions.SolverFailureError, 0),
    ("poll", 401, BAD_TOKEN, 1),
    ("poll", 429, exceptions.SolverError, 1),
    ("poll", 500, None, 1),
    ("poll", 503, None, 1),
    ("poll", "drop", None, 1),
    ("poll", "drop-after", None, 1),
    ("poll", "truncated", CUT, 1),
    ("poll", "corrupt", NO_API, 1),
    ("poll", "version", NO_API, 1),
    ("answer", 401, BAD_TOKEN, 1),
    ("answer", 429, exceptions.SolverError, 1),
    ("answer", 500, exceptions.SolverError, 1),
    ("answer", "drop", None, 1),
    ("answer", "truncated", CUT, 1),
    ("answer", "corrupt", NO_API, 1),
    ("answer", "corrupt-answer", ValueError, 1),
    ("answer", "version", NO_API, 1),
    ("answer", "no-answer", None, 1),
    ("job", "offline", exceptions.SolverOfflineError, 1),
    ("job", "failed", exceptions.SolverFailureError, 1),
    ("job", "cancelled", exceptions.CanceledFutureError, 1),
    ("job", "pending", None, 1),
]


@pytest.mark.parametrize(("where", "kind", "expected", "accepted"), MATRIX)
def test_fault_of_a_job(qpu, sampler, where, kind, expected, accepted):
    before, spent = len(qpu.jobs), qpu.access_time_us
    qpu.fault(where, kind, seconds=0.2)
    answer = sample(sampler)
    if expected is None:
        assert answer.record.num_occurrences.sum() == 3
    else:
        with pytest.raises(expected) as caught:
            answer.resolve()
        if expected is exceptions.SolverError:
            assert type(caught.value) is expected
    assert len(qpu.jobs) - before == accepted
    if accepted and where != "job":
        job = wait_for_end(qpu)
        assert (job.status, job.times_answered) == ("COMPLETED", int(expected is None))
    if where == "job" and expected is not None:
        assert qpu.access_time_us == spent
    # The fault has passed: the same client samples again.
    assert sample(sampler).record.num_occurrences.sum() == 3


def wait_for_end(qpu):
    deadline = time.monotonic() + 60
    while qpu.jobs[-1].status in ("PENDING", "IN_PROGRESS") and time.monotonic() < deadline:
        time.sleep(0.01)
    return qpu.jobs[-1]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (401, BAD_TOKEN),
        (429, api_exceptions.ResourceLimitsExceededError),
        (500, api_exceptions.InternalServerError),
        ("drop", None),
        ("truncated", CUT),
        ("corrupt", NO_API),
        ("version", NO_API),
    ],
)
def test_fault_at_selection_of_a_solver(qpu, kind, expected):
    qpu.fault("solvers", kind)
    if expected is None:
        with sampler_of(qpu) as found:
            assert found.nodelist
    else:
        with pytest.raises(expected), sampler_of(qpu):
            pass


def test_slow_answer_and_read_timeout(qpu, sampler):
    qpu.fault("answer", "slow", seconds=0.4)
    start = time.monotonic()
    sample(sampler).resolve()
    assert time.monotonic() - start > 0.4
    # A read time-out on submission: the job has been accepted all the same.
    before = len(qpu.jobs)
    qpu.fault("submit", "slow", seconds=4.0)
    with (
        sampler_of(qpu, request_timeout=1.0) as hasty,
        pytest.raises(exceptions.RequestTimeout),
    ):
        sample(hasty).resolve()
    assert len(qpu.jobs) == before + 1


def test_a_job_without_an_answer_never_ends(qpu, sampler):
    """COMPLETED without answer: the client asks again and again, and the job was paid for."""
    qpu.fault("job", "no-answer")
    spent = qpu.access_time_us
    future = sampler.solver.sample_ising({}, {sampler.edgelist[0]: -1.0})
    future.wait_id()
    job = wait_for_end(qpu)
    assert not future.wait(timeout=0.5)
    assert (job.status, job.times_answered) == ("COMPLETED", 0)
    assert qpu.access_time_us > spent
    qpu.fault("answer", 404)  # or else the client would not even close
    with pytest.raises(exceptions.SolverError):
        future.result()


def test_pending_lasts(qpu, sampler):
    qpu.fault("job", "pending", seconds=2.0)
    start = time.monotonic()
    future = sampler.solver.sample_ising({}, {sampler.edgelist[0]: -1.0})
    future.wait_id()
    time.sleep(0.2)
    assert qpu.jobs[-1].status == "PENDING"
    future.result()
    assert time.monotonic() - start >= 2.0


def test_offline_until_it_is_online_again(qpu, sampler):
    qpu.online = False
    with pytest.raises(exceptions.SolverOfflineError):
        sample(sampler).resolve()
    qpu.online = True
    sample(sampler).resolve()


def test_times_and_after_count_requests():
    queue = FaultQueue()
    queue.add(Fault("poll", "500", times=2, after=1))
    queue.add(Fault("poll", "drop"))
    kinds = [fault and fault.kind for fault in (queue.next("poll") for _ in range(5))]
    assert kinds == ["drop", "500", "500", None, None]
    assert queue.next("submit") is None


def test_a_fault_from_text():
    assert Fault.parse("submit:429:2") == Fault("submit", "429", times=2)
    assert Fault.parse("job:pending:1:3:0.5") == Fault("job", "pending", 1, 3, 0.5)
    assert Fault.parse("submit:offline").where == "job"
    for text, message in (
        ("submit", "must be where:kind"),
        ("submit:429:2:1:1:1", "must be where:kind"),
        ("submit:429:two", "must have numbers"),
        ("moon:429", "`where` must be one of"),
        ("submit:200", "`kind` at 'submit' must be one of"),
        ("poll:offline", "`kind` at 'poll' must be one of"),
        ("poll:corrupt-answer", "`kind` at 'poll' must be one of"),
        ("submit:429:0", "`times` must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            Fault.parse(text)


def test_a_slow_submission_is_taken_in_after_its_client_gave_up(qpu, sampler):
    before = len(qpu.jobs)
    qpu.fault("submit", "slow-accept", seconds=4.0)
    with (
        sampler_of(qpu, request_timeout=1.0) as hasty,
        pytest.raises(exceptions.RequestTimeout),
    ):
        sample(hasty).resolve()
    assert len(qpu.jobs) == before
    deadline = time.monotonic() + 60
    while len(qpu.jobs) == before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(qpu.jobs) == before + 1


def listed(sampler, label):
    """Ids of the service's listing of a label."""
    from dwave.cloud.api import Problems

    with Problems.from_config(sampler.client.config) as problems:
        return [problem.id for problem in problems.list_problems(label=label)]


def test_a_job_may_be_listed_late(qpu, sampler):
    qpu.fault("job", "list-lag", seconds=4.0)
    edge = sampler.edgelist[0]
    sampler.sample_ising({}, {edge: -1.0}, label="late").resolve()
    assert listed(sampler, "late") == []
    time.sleep(4.0)
    assert listed(sampler, "late") == [qpu.jobs[-1].id]


def test_a_known_job_may_be_gone(qpu, sampler):
    from dwave.cloud.api import Problems

    qpu.fault("job", "gone", seconds=4.0)
    edge = sampler.edgelist[0]
    sampler.sample_ising({}, {edge: -1.0}, label="forgotten").resolve()
    time.sleep(4.0)
    assert qpu.jobs[-1].status == "COMPLETED"
    assert listed(sampler, "forgotten") == []
    with (
        Problems.from_config(sampler.client.config) as problems,
        pytest.raises(api_exceptions.RequestError, match="no longer accessible"),
    ):
        problems.get_problem(qpu.jobs[-1].id)
