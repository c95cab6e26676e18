"""Submissions whose response was lost: found, sent again, cancelled or counted, and paid once."""

import time

import pytest
from _support.qpu_backends import backend_of, check_no_second_is_lost, ids

from qattn import problems
from qattn.backends import BackendStopped
from qattn.hardware.calls import RetryPolicy
from qattn.hardware.calls.sending import was_charged
from qattn.hardware.emulator import EmulatedQPU, faults
from qattn.hardware.service.budget import BudgetExceeded
from qattn.hardware.service.credentials import Credentials
from qattn.hardware.service.solver_api import JobStatus

pytestmark = pytest.mark.usefixtures("packings_are_kept")

BATCH = problems.synthetic(4, 5, field_sd=0.4, coupling_sd=0.3, seed=3)
"""One job."""

WAIT = RetryPolicy(0.05, 0.1, failing=20.0, unseen=0.5, listings=3, queued=30.0, poll=1.0)


@pytest.fixture
def qpu():
    with EmulatedQPU(shape=(3, 4), default_wait=0.05) as running:
        yield running


@pytest.fixture
def hasty(monkeypatch):
    """Requests time out after a second."""
    config = Credentials.client_config
    monkeypatch.setattr(
        Credentials, "client_config", lambda self: config(self) | {"request_timeout": 1.0}
    )


def opened(qpu, folder, **options):
    return backend_of(
        qpu, folder, **({"journal": folder / "journal", "retry_policy": WAIT} | options)
    )


def sample(backend, seed=1):
    samples = backend.sample(BATCH, num_reads=20, seed=seed)
    assert bool((samples.spins != 0).all())
    return samples


def wait_for_jobs(qpu, number, status=None):
    deadline = time.monotonic() + 60
    while len(qpu.jobs) < number or (status and any(job.status != status for job in qpu.jobs)):
        assert time.monotonic() < deadline, qpu.jobs
        time.sleep(0.02)


def labels(backend):
    (job,) = backend.session.journal.jobs.values()
    return [sent.label for sent in job.sent]


@pytest.mark.parametrize("step", [0.0, 3600.0, -3600.0])
def test_a_job_that_is_listed_late_is_waited_for_whatever_the_wall_clock_does(
    qpu, tmp_path, monkeypatch, step
):
    """A response that is lost, a listing that lags, and a clock that is set in between."""
    real, noticed = time.time, []

    def stepped():
        """The clock is set 0.2 s after the submission was noticed to be lost."""
        if qpu.jobs and not noticed:
            noticed.append(time.monotonic())
        return real() + (step if noticed and time.monotonic() - noticed[0] > 0.2 else 0.0)

    monkeypatch.setattr(time, "time", stepped)
    qpu.fault("submit", "502-after")
    qpu.fault("job", "list-lag", seconds=1.0)
    backend = opened(qpu, tmp_path, retry_policy=RetryPolicy(0.05, 0.1, unseen=3.0, poll=1.0))
    started = time.monotonic()
    sample(backend)
    assert time.monotonic() - started < 60  # and no longer than it takes to be listed
    assert len(qpu.jobs) == 1
    check_no_second_is_lost(qpu, backend)
    backend.close()


def test_one_empty_listing_is_not_enough(qpu, tmp_path):
    """However short the wait, several listings in a row must lack the label."""
    qpu.fault("submit", "502-after")
    qpu.fault("job", "list-lag", seconds=0.6)
    policy = RetryPolicy(0.4, 0.4, unseen=0.0, listings=4, poll=1.0)
    backend = opened(qpu, tmp_path, retry_policy=policy)
    sample(backend)
    backend.close()
    assert len(qpu.jobs) == 1


def test_the_wait_starts_when_the_failure_is_noticed(qpu, tmp_path, hasty):
    """A time-out as long as the wait leaves the whole wait for the label to appear."""
    qpu.fault("submit", "slow-accept", seconds=1.5)
    backend = opened(qpu, tmp_path, retry_policy=RetryPolicy(0.02, 0.1, unseen=2.0, listings=1))
    sample(backend)
    assert len(qpu.jobs) == 1
    check_no_second_is_lost(qpu, backend)
    backend.close()


def test_a_second_that_ran_is_counted(qpu, tmp_path, hasty):
    qpu.fault("submit", "slow-accept", seconds=4.0)
    backend = opened(qpu, tmp_path)
    sample(backend)
    first, second = labels(backend)
    assert second == first + "-r2"
    # Not there yet: in doubt, and charged.
    assert len(qpu.jobs) == 1
    budget = backend.session.budget
    (sent,) = [sent for sent in backend.session.journal.jobs.popitem()[1].sent if not sent.seconds]
    assert budget.reserved == pytest.approx(sent.estimate * budget.margin)
    assert budget.left == float("inf")
    wait_for_jobs(qpu, 2, "COMPLETED")
    backend.close()
    again = opened(qpu, tmp_path)
    sample(again)  # from the journal
    assert len(qpu.jobs) == 2
    check_all(qpu, again)
    again.close()


def check_all(qpu, backend):
    """As ``check_no_second_is_lost``, after a look at what is in doubt."""
    backend.session.runner.close()
    check_no_second_is_lost(qpu, backend)


def test_what_is_in_doubt_is_settled_when_the_device_is_closed(qpu, tmp_path, hasty):
    qpu.fault("submit", "slow-accept", seconds=4.0)
    backend = opened(qpu, tmp_path)
    sample(backend)
    wait_for_jobs(qpu, 2, "COMPLETED")
    check_all(qpu, backend)
    assert {job.label for job in qpu.jobs} == set(labels(backend))
    backend.close()


def test_a_second_that_waits_is_cancelled(qpu, tmp_path, hasty):
    qpu.fault("submit", "slow-accept", seconds=4.0)
    qpu.fault("job", "pending", after=1, seconds=60.0)
    backend = opened(qpu, tmp_path)
    sample(backend)
    wait_for_jobs(qpu, 2)
    check_all(qpu, backend)
    backend.close()
    assert sorted(job.status for job in qpu.jobs) == ["CANCELLED", "COMPLETED"]


def test_the_first_answer_is_used(qpu, tmp_path):
    """The first submission turns up with its answer while the second still waits."""
    qpu.fault("submit", "502-after")
    qpu.fault("job", "list-lag", seconds=3.0)
    qpu.fault("job", "pending", seconds=60.0)
    backend = opened(qpu, tmp_path)
    started = time.monotonic()
    sample(backend)
    assert time.monotonic() - started < 30
    check_no_second_is_lost(qpu, backend)
    backend.close()
    assert [job.status for job in qpu.jobs] == ["COMPLETED", "CANCELLED"]


def test_the_ceiling_holds_for_what_nobody_knows(qpu, tmp_path):
    """With a ceiling of 1.8 jobs no second is sent, now or later; the first is found at last."""
    first = opened(qpu, tmp_path, journal=tmp_path / "price")
    sample(first)
    price = first.metrics()["qpu_seconds"]
    first.close()
    ceiling = 1.8 * price
    qpu.fault("submit", "502-after")
    qpu.fault("job", "list-lag", seconds=6.0)
    backend = opened(qpu, tmp_path, qpu_budget=ceiling)
    with pytest.raises(BudgetExceeded):
        sample(backend)
    backend.close()
    accepted = len(qpu.jobs)
    assert accepted == 2
    again = opened(qpu, tmp_path, qpu_budget=ceiling)
    assert again.session.budget.reserved > price
    assert again.metrics()["qpu_seconds_left"] < 0.8 * price
    time.sleep(6.0)
    sample(again)
    assert len(qpu.jobs) == accepted
    assert again.metrics()["qpu_seconds"] <= ceiling
    again.close()


def test_on_resuming_the_wait_starts_anew(qpu, tmp_path):
    qpu.fault("submit", "drop-after")
    qpu.fault("job", "list-lag", seconds=2.5)
    qpu.fault("list", 503, times=99)
    backend = opened(qpu, tmp_path, retry_policy=RetryPolicy(0.02, 0.1, failing=0.5, unseen=0.2))
    with pytest.raises(BackendStopped, match="cannot be fetched"):
        sample(backend)
    backend.close()
    qpu.clear_faults()
    again = opened(qpu, tmp_path, retry_policy=RetryPolicy(0.05, 0.5, unseen=5.0, poll=1.0))
    sample(again)
    check_no_second_is_lost(qpu, again)
    assert len(qpu.jobs) == 1
    again.close()


def test_every_label_that_was_sent_is_kept(qpu, tmp_path):
    qpu.fault("submit", 503, times=2)
    backend = opened(qpu, tmp_path)
    sample(backend)
    first, *others = labels(backend)
    assert others == [f"{first}-r2", f"{first}-r3"]
    backend.close()
    again = opened(qpu, tmp_path)
    assert labels(again) == [first, *others]
    again.close()


class TestForgotten:
    """An accepted job that the service does not know any more."""

    @pytest.mark.parametrize("status", [404, 410])
    def test_is_looked_up_once(self, qpu, tmp_path, status):
        qpu.fault("poll", status)
        backend = opened(qpu, tmp_path)
        sample(backend)
        check_no_second_is_lost(qpu, backend)
        assert len(qpu.jobs) == 1
        backend.close()

    def test_counts_and_is_planned_anew(self, qpu, tmp_path, caplog):
        qpu.fault("job", "gone", seconds=0.0)
        backend = opened(qpu, tmp_path)
        sample(backend)
        assert "does not know job" in caplog.text
        assert len(qpu.jobs) == 2
        assert ids(backend.session.journal) == {job.id for job in qpu.jobs}
        spent = backend.metrics()["qpu_seconds"]
        assert spent == pytest.approx(qpu.access_time_us * 1e-6, rel=0.05)  # one at its estimate
        backend.close()
        again = opened(qpu, tmp_path)
        assert again.session.budget.spent == pytest.approx(spent)
        sample(again)
        assert len(qpu.jobs) == 2
        again.close()

    def test_in_the_working_graph_of_now(self, qpu, tmp_path):
        """Forgotten between two runs, with a recalibration in between."""
        qpu.fault("job", "gone", seconds=0.0)
        qpu.fault("poll", 500, times=99)
        backend = opened(qpu, tmp_path, retry_policy=RetryPolicy(0.02, 0.1, failing=0.3))
        with pytest.raises(BackendStopped, match="cannot be fetched"):
            sample(backend)
        backend.close()
        qpu.clear_faults()
        qpu.recalibrate()
        again = opened(qpu, tmp_path)
        sample(again)
        assert len(qpu.jobs) == 2
        again.close()

    def test_needs_a_second_reservation(self, qpu, tmp_path):
        first = opened(qpu, tmp_path, journal=tmp_path / "price")
        sample(first)
        price = first.metrics()["qpu_seconds"]
        first.close()
        qpu.fault("job", "gone", seconds=0.0)
        backend = opened(qpu, tmp_path, qpu_budget=1.8 * price)
        with pytest.raises(BudgetExceeded):
            sample(backend)
        backend.close()
        assert len(qpu.jobs) == 2

    def test_is_not_bought_for_ever(self, qpu, tmp_path):
        qpu.fault("job", "gone", times=99, seconds=0.0)
        backend = opened(qpu, tmp_path)
        with pytest.raises(BackendStopped, match="Ask D-Wave about the ids"):
            sample(backend)
        backend.close()
        assert len(qpu.jobs) == 2


class TestCharges:
    @pytest.mark.parametrize(
        ("message", "charged"),
        [
            ("1710274 > 1000000", False),
            ("num_reads out of range: 20000 not in [1, 10000]", False),
            ("Problem run duration exceeds the limit", False),
            ("The working graph has changed since submission", False),
            ("Problem failed: internal error of the quantum processor", True),
            ("Internal error: time limit exceeded", True),
            ("Solver is offline", True),
            ("", True),
        ],
    )
    def test_a_refusal_is_told_by_its_message(self, message, charged):
        failed = JobStatus("id", "FAILED", message)
        assert was_charged(failed, ran=False) is charged
        assert was_charged(failed, ran=True) is True

    @pytest.mark.parametrize("refused", [True, False])
    def test_of_a_failed_job(self, qpu, tmp_path, monkeypatch, refused):
        """In the budget and, after reopening, in the journal: only what may have run."""
        if refused:
            monkeypatch.setitem(faults.OUTCOME_MESSAGES, "failed", "num_reads out of range")
        qpu.fault("job", "failed")
        backend = opened(qpu, tmp_path)
        with pytest.raises(BackendStopped, match="failed job"):
            sample(backend)
        session = backend.session
        (job,) = session.journal.jobs.values()
        estimate = job.sent[0].estimate
        assert estimate > 0
        expected = 0.0 if refused else estimate
        assert (session.budget.spent, session.budget.reserved) == (expected, 0)
        backend.close()
        again = opened(qpu, tmp_path)
        assert again.session.budget.spent == expected
        (job,) = again.session.journal.jobs.values()
        assert job.access_time == expected
        sample(again)
        assert again.metrics()["qpu_seconds"] == pytest.approx(expected + qpu.access_time_us * 1e-6)
        again.close()

    def test_refused_submissions_hold_no_time(self, qpu, tmp_path):
        """Three times 429 under a ceiling of two jobs: each refusal gives its time back."""
        first = opened(qpu, tmp_path, journal=tmp_path / "price")
        sample(first)
        ceiling = 2 * first.metrics()["qpu_seconds"]
        first.close()
        qpu.fault("submit", 429, times=3)
        backend = opened(qpu, tmp_path, qpu_budget=ceiling)
        sample(backend)
        assert backend.session.budget.reserved == 0
        backend.close()

    def test_what_was_learnt_of_estimates_survives(self, tmp_path):
        with EmulatedQPU(shape=(3, 4), timing_spread=0.4, seed=1) as qpu:
            backend = opened(qpu, tmp_path)
            for seed in range(8):
                sample(backend, seed)
            margin = backend.session.budget.margin
            assert margin > 1.1
            backend.close()
            again = opened(qpu, tmp_path)
            assert again.session.budget.margin == pytest.approx(margin)
            again.close()
