"""Jobs from submission to answer: paid for once, never lost, whatever fails on the way.

A job goes through the journal's states. What matters is what is known after a failure:

- the service refused (an HTTP 4xx): the job did not run. HTTP 429 is tried again, with exponential
  back-off and jitter; anything else stops the run;
- nothing usable came back (5xx, a dropped connection, a time-out, a broken response): the job may
  run, and :mod:`qattn.hardware.calls.sending` finds out;
- the job has an id: asking for its state and its answer is safe, and is repeated until it succeeds
  or a time-out. Then the run stops, and a later one picks the answer up;
- the service does not know the id any more (404, 410), nor the label: the job counts as run, and
  its problems are planned anew.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from time import monotonic

from qattn.backends.base import BackendStopped
from qattn.hardware.calls.journal import Journal
from qattn.hardware.calls.records import JobRecord
from qattn.hardware.calls.sending import EmbeddedJob, JobRefused, Submissions, was_charged
from qattn.hardware.service.budget import QPUBudget
from qattn.hardware.service.device import Device, SolverUnavailable
from qattn.hardware.service.retry import Retrier, RetryPolicy
from qattn.hardware.service.solver_api import Gone, JobStatus, RawAnswer, ServiceError, Unclear

__all__ = ["EmbeddedJob", "JobRefused", "JobRunner", "PlanAnew", "RetryPolicy", "SolverOffline"]

LEAVING = 2.0
"""Seconds for which a second interrupt waits for requests under way."""

log = logging.getLogger("qattn.hardware")


class SolverOffline(SolverUnavailable):
    """The solver went offline with a job in hand."""


class PlanAnew(Exception):  # noqa: N818 - it says what to do
    """A job has no answer and will have none: its problems need another."""


class JobRunner:
    """Brings the jobs of a journal to their answers.

    Args:
        device: The solver.
        journal: The journal, to which every step is written before the next one.
        budget: Ceiling on QPU access time.
        max_in_flight: Jobs at the service at a time.
        retry_policy: Retry and time-out limits.
    """

    def __init__(
        self,
        device: Device,
        journal: Journal,
        budget: QPUBudget,
        max_in_flight: int,
        retry_policy: RetryPolicy,
    ) -> None:
        self.journal, self.max_in_flight = journal, max_in_flight
        self._retrier = Retrier(retry_policy)
        self.submissions = Submissions(device, journal, budget, self._retrier)
        self._replaced: set[str] = set()

    @property
    def device(self) -> Device:
        """The solver; assign to change it."""
        return self.submissions.device

    @device.setter
    def device(self, device: Device) -> None:
        self.submissions.device = device

    def run(self, records: Iterable[JobRecord], embed: Callable[[JobRecord], EmbeddedJob]) -> None:
        """Return when every one of these jobs has its answer in the journal.

        When one fails, those in flight are still brought home before its error is raised. An
        interrupt leaves within :data:`LEAVING` seconds: the journal has the labels and ids.

        Raises:
            JobRefused: A job was not accepted.
            SolverOffline: The solver went offline.
            BudgetExceeded: The next job does not fit into the budget.
            PlanAnew: A job will have no answer, or was planned for another working graph.
            BackendStopped: A job failed or was cancelled, or a time-out passed.
        """
        self._retrier.stopping.clear()
        open_jobs = [record for record in records if record.status != "answered"]
        futures: list[Future[None]] = [Future() for _ in open_jobs]
        waiting = deque(zip(futures, open_jobs, strict=True))

        def work() -> None:
            while waiting:
                try:
                    future, record = waiting.popleft()
                except IndexError:  # another thread took the last
                    return
                if not future.set_running_or_notify_cancel():
                    continue
                try:
                    self._finish(record, embed)
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(None)

        # Daemons: a request on a dead network must not keep the process from ending.
        for _ in range(min(self.max_in_flight, len(open_jobs))):
            threading.Thread(target=work, name="qpu-job", daemon=True).start()
        try:
            _, others = wait(futures, return_when=FIRST_EXCEPTION)
            for future in others:
                future.cancel()
            wait(futures)
        except BaseException:
            self._retrier.stopping.set()
            for future in futures:
                future.cancel()
            wait(futures, LEAVING)
            raise
        for future in futures:
            if not future.cancelled():
                future.result()

    def fetch_again(self, record: JobRecord) -> RawAnswer:
        """An answer that the journal has lost, from the service, which keeps it for a while.

        Raises:
            PlanAnew: The service does not have it any more.
            SolverUnavailable: It cannot be asked.
        """
        log.warning("The journal has lost the answer of job %s: it is fetched again.", record.name)
        try:
            answer = self._answer(record)
        except Gone:
            self._give_up(record)
            raise PlanAnew from None
        self.journal.store_reads(record.name, answer)
        return answer

    def close(self) -> None:
        """Look once more for what may have been sent twice; not after an interrupt."""
        if not self._retrier.stopping.is_set():
            self.submissions.settle_all()

    def _finish(self, record: JobRecord, embed: Callable[[JobRecord], EmbeddedJob]) -> None:
        if record.status == "submitted":
            self.submissions.resolve(record)
        if record.status in ("planned", "ended"):
            if (record.solver, record.graph_id) != (self.device.name, self.device.graph.graph_id):
                raise PlanAnew
            self.submissions.send(record, embed(record))
        try:
            self._collect(record)
        except Gone:
            self._look_up_or_replace(record)
        try:
            self.submissions.settle_others(record)
        except ServiceError as error:
            log.warning(
                "Job %s may have run twice, and is looked for later: %s", record.name, error
            )

    def _look_up_or_replace(self, record: JobRecord) -> None:
        """A job whose id is unknown: look its label up, once; then count it and plan anew."""
        lost_id = record.problem_id
        found = self.submissions.request(lambda: self.device.service.find(record.label), record)
        if found is not None:
            self.journal.accepted(record.name, found.problem_id)
            try:
                return self._collect(record)
            except Gone:
                log.debug("job %s is listed, but cannot be had", record.name)
        self._give_up(record)
        if record.name in self._replaced:
            raise BackendStopped(
                f"{self.device.name} does not know job {lost_id} any more, which replaced another "
                f"that it did not know: both count as run. Ask D-Wave about the ids in "
                f"{self.journal.folder}; a later run submits the job anew."
            )
        self._replaced.add(record.name)
        raise PlanAnew

    def _give_up(self, record: JobRecord) -> None:
        log.warning(
            "%s does not know job %s any more: it counts as run, and is sampled anew.",
            self.device.name,
            record.problem_id,
        )
        self.journal.ended(record.name, "not known to the service any more", charged=True)
        self.submissions.settle_current(record)

    def _collect(self, record: JobRecord) -> None:
        if record.doubtful:
            self.submissions.prefer_answered(record)
        status, ran = self._ended(record)
        if status.status == "COMPLETED":
            self.journal.answered(record.name, self._answer(record))
            self.submissions.settle_current(record)
            return
        failed = status.status == "FAILED"
        charged = failed and was_charged(status, ran=ran)
        self.journal.ended(record.name, status.message or status.status, charged=charged)
        self.submissions.settle_current(record)
        problem_id = record.problem_id
        if not failed:
            raise BackendStopped(f"Job {problem_id} on {self.device.name} was cancelled.")
        if "offline" in status.message.lower():
            raise SolverOffline(f"{self.device.name} went offline during job {problem_id}.")
        raise BackendStopped(f"{self.device.name} failed job {problem_id}: {status.message}.")

    def _ended(self, record: JobRecord) -> tuple[JobStatus, bool]:
        """The state of a job, once it has come to an end, and whether it was seen to run."""
        policy = self._retrier.policy
        deadline = monotonic() + policy.queued
        pause, ran = 0.0, False

        def ask() -> JobStatus:
            assert record.problem_id is not None
            left = max(0.0, deadline - monotonic())
            return self.device.service.status(record.problem_id, min(policy.poll, left))

        while True:
            status = self.submissions.request(ask, record, passing=(Gone,))
            if status.status not in ("PENDING", "IN_PROGRESS"):
                return status, ran
            ran = ran or status.status == "IN_PROGRESS"
            if monotonic() >= deadline:
                raise SolverUnavailable(
                    f"Job {record.problem_id} on {self.device.name} is still {status.status} after "
                    f"{policy.queued:g} s. {self.submissions.kept}"
                )
            if record.doubtful:
                self.submissions.prefer_answered(record)
            self._retrier.pause(pause)  # in case the service does not hold answers back
            pause = min(2.0, 2 * pause + 0.01)

    def _answer(self, record: JobRecord) -> RawAnswer:
        """The answer of a completed job, with all its reads."""
        problem_id = record.problem_id
        assert problem_id is not None

        def ask() -> RawAnswer:
            answer = self.device.service.answer(problem_id)
            if len(answer.spins) != record.num_reads:
                raise Unclear(
                    f"the answer of job {problem_id} has {len(answer.spins)} reads instead of "
                    f"{record.num_reads}"
                )
            return answer

        return self.submissions.request(ask, record, passing=(Gone,))
