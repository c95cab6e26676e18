"""The runner of jobs on its own, with a service that is not there."""

import signal
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from qattn.backends import BackendStopped
from qattn.hardware.calls.journal import Journal
from qattn.hardware.calls.records import JobRecord
from qattn.hardware.calls.runner import LEAVING, EmbeddedJob, JobRunner, RetryPolicy
from qattn.hardware.service.budget import QPUBudget
from qattn.hardware.service.device import SolverUnavailable
from qattn.hardware.service.solver_api import JobStatus, RawAnswer, Unclear


class Service:
    """Accepts and completes everything; `status` may be replaced."""

    def __init__(self):
        self.accepted = 0

    def submit(self, solver, linear, quadratic, params, label):
        self.accepted += 1
        return f"id-{self.accepted}"

    def status(self, problem_id, wait):
        return JobStatus(problem_id, "COMPLETED")

    def answer(self, problem_id):
        return RawAnswer(np.arange(2, dtype=np.int32), np.ones((3, 2), np.int8), {})


def runner_of(folder, service, policy=None, jobs=3):
    device = SimpleNamespace(
        name="S",
        graph=SimpleNamespace(graph_id="graph"),
        solver=None,
        service=service,
        access_time=lambda *_: 0.01,
    )
    journal = Journal(folder)
    call = journal.add_call("digest", {}, {}, {})
    for number in range(jobs):
        record = JobRecord(f"job-{number}", call.name, number, 3, "packing", "S", "graph")
        journal.add_job(record, {})
    policy = policy or RetryPolicy(0.01, 0.02)
    return JobRunner(device, journal, QPUBudget(None), 2, policy)


def run(runner):
    runner.run(runner.journal.jobs.values(), lambda _: EmbeddedJob({}, {}, {}))


# The stand-ins are no devices: without the shape checks that only tests have.
pytestmark = pytest.mark.usefixtures("as_users_call")


def test_every_job_is_run_once(tmp_path):
    service = Service()
    runner = runner_of(tmp_path, service, jobs=7)
    run(runner)
    assert service.accepted == 7
    assert {job.status for job in runner.journal.jobs.values()} == {"answered"}


def test_an_interrupt_does_not_wait_for_a_dead_network(tmp_path):
    """Requests that hang for a minute: an interrupt leaves at once, and writes nothing later."""
    service, hanging = Service(), threading.Semaphore(0)
    released = threading.Event()

    def status(problem_id, wait):
        hanging.release()
        released.wait(60)
        return JobStatus(problem_id, "COMPLETED")

    service.status = status
    runner = runner_of(tmp_path, service)

    def interrupt():
        for _ in range(runner.max_in_flight):  # both jobs are waited for
            hanging.acquire(timeout=20)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(runner)
    runner.close()  # asks nobody either
    runner.journal.close()
    assert time.monotonic() - started < LEAVING + 5
    size = runner.journal.events_file.stat().st_size
    released.set()
    time.sleep(0.2)
    assert runner.journal.events_file.stat().st_size == size
    again = Journal(tmp_path)
    assert [job.status for job in again.jobs.values()] == ["accepted", "accepted", "planned"]
    again.close()


def test_failing_is_the_longest_that_a_request_may_fail(tmp_path):
    """No repetition begins later, though the waits between them have grown to twice as much."""
    service, asked = Service(), []

    def status(problem_id, wait):
        asked.append(time.monotonic())
        raise Unclear("no route to host")

    service.status = status
    runner = runner_of(tmp_path, service, RetryPolicy(0.05, 4.0, failing=2.0), jobs=1)
    with pytest.raises(SolverUnavailable, match="no route to host"):
        run(runner)
    # Begun no later than after 2 s; the next one, after a wait of 1.6 s, would be after 3.15 s.
    assert len(asked) > 2
    assert asked[-1] - asked[0] < 3.0
    assert time.monotonic() - asked[0] < 3.0


def test_an_error_brings_the_others_home(tmp_path):
    service = Service()

    def answer(problem_id):
        if problem_id == "id-1":
            raise RuntimeError("a defect")
        time.sleep(0.3)
        return Service.answer(service, problem_id)

    service.answer = answer
    runner = runner_of(tmp_path, service, jobs=5)
    with pytest.raises(RuntimeError, match="a defect") as caught:
        run(runner)
    assert not isinstance(caught.value, BackendStopped)
    states = [job.status for job in runner.journal.jobs.values()]
    assert "submitted" not in states
    assert states.count("accepted") == 1
    assert states[1] == "answered"
