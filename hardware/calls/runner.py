"""Jobs from submission to answer: paid for once, never lost, whatever fails on the way.

A job goes through the journal's states. What matters is what is known after a failure:

- the service refused (an HTTP 4xx): the job did not run. HTTP 429 is tried again, with exponential
  back-off and jitter; anything else stops the run;
- nothing usable came back (5xx, a dropped connection, a time-out, a broken response): the job may
  run. Its label, which is on the disk before it is sent, finds it at the service. Only when the
  service answers that it has no such label is the job sent again;
- the job has an id: asking for its state and its answer is safe, and is repeated until it succeeds
  or a time-out. Then the run stops, and a later one picks the answer up.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, TypeVar

import tenacity

from qattn.backends.base import BackendStopped
from qattn.hardware.calls.journal import Journal
from qattn.hardware.calls.records import JobRecord
from qattn.hardware.service.budget import QPUBudget
from qattn.hardware.service.device import Device, SolverUnavailable
from qattn.hardware.service.solver_api import (
    Busy,
    JobStatus,
    RawAnswer,
    Refused,
    ServiceError,
    Unclear,
)

log = logging.getLogger("qattn.hardware")

T = TypeVar("T")


class JobRefused(BackendStopped):
    """The service did not accept a job: it has not run."""


class SolverOffline(SolverUnavailable):
    """The solver went offline with a job in hand."""


@dataclass(frozen=True)
class RetryPolicy:
    """Retry and time-out limits of requests to the service.

    Attributes:
        first_wait: Seconds before the first repetition; they double, with jitter.
        longest_wait: Largest number of seconds between two repetitions.
        failing: Seconds for which a request may keep failing.
        unseen: Seconds after a submission without a response in which its label must appear.
        queued: Seconds for which a job may wait and run.
        poll: Seconds for which the service is asked to hold a response until the job ends.
    """

    first_wait: float = 0.5
    longest_wait: float = 30.0
    failing: float = 300.0
    unseen: float = 10.0
    queued: float = 3600.0
    poll: float = 20.0


@dataclass(frozen=True, eq=False)
class EmbeddedJob:
    """What is sent for a job.

    Attributes:
        linear: Bias of each qubit.
        quadratic: Bias of each coupler.
        params: Parameters of the solver.
    """

    linear: dict[int, float]
    quadratic: dict[tuple[int, int], float]
    params: dict[str, Any]


@dataclass(eq=False)
class JobRunner:
    """Brings the jobs of a journal to their answers.

    Args:
        device: The solver.
        journal: The journal, to which every step is written before the next one.
        budget: Ceiling on QPU access time.
        max_in_flight: Jobs at the service at a time.
        retry_policy: Retry and time-out limits.
    """

    device: Device
    journal: Journal
    budget: QPUBudget
    max_in_flight: int
    retry_policy: RetryPolicy

    def __post_init__(self) -> None:
        self._stopping = threading.Event()
        self._reservations = {
            record.name: self.budget.adopt(record.estimate)
            for record in self.journal.jobs.values()
            if record.status in ("submitted", "accepted")
        }

    def run(self, records: Iterable[JobRecord], embed: Callable[[JobRecord], EmbeddedJob]) -> None:
        """Return when every one of these jobs has its answer in the journal.

        When one fails, those in flight are still brought home before its error is raised.

        Raises:
            JobRefused: A job was not accepted.
            SolverOffline: The solver went offline.
            BudgetExceeded: The next job does not fit into the budget.
            BackendStopped: A job failed or was cancelled, or a time-out passed.
        """
        self._stopping.clear()
        open_jobs = [record for record in records if record.status != "answered"]
        with ThreadPoolExecutor(self.max_in_flight, "qpu-job") as pool:
            futures = [pool.submit(self._finish, record, embed) for record in open_jobs]
            try:
                _, others = wait(futures, return_when=FIRST_EXCEPTION)
                for future in others:
                    future.cancel()
                wait(futures)
            except BaseException:  # a second interrupt: leave at once; the journal has the ids
                self._stopping.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        for future in futures:
            if not future.cancelled():
                future.result()

    def _finish(self, record: JobRecord, embed: Callable[[JobRecord], EmbeddedJob]) -> None:
        if record.status == "submitted":
            self._resolve(record)
        if record.status in ("planned", "ended"):
            self._submit(record, embed(record))
        self._collect(record)

    def _submit(self, record: JobRecord, job: EmbeddedJob) -> None:
        estimate = self.device.access_time(len(job.linear), job.params)
        label = f"qattn-{self.journal.id}-{record.name}"
        if record.status == "ended":  # the label of a job that failed finds that job
            label = f"{label}-{int(time.time())}"

        def attempt() -> None:
            if record.status in ("planned", "ended"):
                self._reservations[record.name] = self.budget.reserve(estimate)
                self.journal.submitting(record.name, label, estimate)
                try:
                    problem_id = self.device.service.submit(
                        self.device.solver, job.linear, job.quadratic, job.params, label
                    )
                    self.journal.accepted(record.name, problem_id)
                    return
                except Refused as error:
                    self._not_run(record, str(error))
                    raise
                except Unclear as error:
                    log.warning("Job %s: %s; looking for it at the service.", record.name, error)
            self._resolve(record)
            if record.status == "planned":
                raise Unclear(record.message)

        try:
            self._with_retries(attempt)
        except Refused as error:
            raise JobRefused(f"{self.device.name} did not accept a job: {error}.") from None
        except Unclear as error:
            raise SolverUnavailable(
                f"The service of {self.device.name} has not responded to a submission for "
                f"{self.retry_policy.failing:g} s: {error}."
            ) from None

    def _resolve(self, record: JobRecord) -> None:
        """Find out whether a job without an id was accepted: by its label."""
        while True:
            unseen_for = time.time() - record.submitted
            status = self._request(lambda: self.device.service.find(record.label), record)
            if status is not None:
                self.journal.accepted(record.name, status.problem_id)
                return
            if unseen_for > self.retry_policy.unseen:
                self._not_run(record, "no job of its label at the service")
                return
            self._pause(min(self.retry_policy.first_wait, self.retry_policy.unseen))

    def _not_run(self, record: JobRecord, why: str) -> None:
        self.journal.rejected(record.name, why)
        self._reservations.pop(record.name).cancel()

    def _collect(self, record: JobRecord) -> None:
        problem_id = record.problem_id
        assert problem_id is not None
        status = self._ended(record, problem_id)
        if status.status == "COMPLETED":
            answer = self._request(lambda: self._whole_answer(record, problem_id), record)
            self.journal.answered(record.name, answer)
            self._reservations.pop(record.name).settle(record.access_time - record.lost)
            return
        failed = status.status == "FAILED"
        self.journal.ended(record.name, status.message or status.status, charged=failed)
        reservation = self._reservations.pop(record.name)
        if not failed:
            reservation.cancel()
            raise BackendStopped(f"Job {problem_id} on {self.device.name} was cancelled.")
        if "offline" in status.message.lower():
            raise SolverOffline(f"{self.device.name} went offline during job {problem_id}.")
        raise BackendStopped(f"{self.device.name} failed job {problem_id}: {status.message}.")

    def _ended(self, record: JobRecord, problem_id: str) -> JobStatus:
        """The state of a job, once it has come to an end."""
        deadline = time.monotonic() + self.retry_policy.queued
        pause = 0.0

        def ask() -> JobStatus:
            left = max(0.0, deadline - time.monotonic())
            return self.device.service.status(problem_id, min(self.retry_policy.poll, left))

        while True:
            status = self._request(ask, record)
            if status.status not in ("PENDING", "IN_PROGRESS"):
                return status
            if time.monotonic() >= deadline:
                raise SolverUnavailable(
                    f"Job {problem_id} on {self.device.name} is still {status.status} after "
                    f"{self.retry_policy.queued:g} s. {self._kept()}"
                )
            self._pause(pause)  # in case the service does not hold answers back
            pause = min(2.0, 2 * pause + 0.01)

    def _whole_answer(self, record: JobRecord, problem_id: str) -> RawAnswer:
        answer = self.device.service.answer(problem_id)
        if len(answer.spins) != record.num_reads:
            raise Unclear(
                f"the answer of job {problem_id} has {len(answer.spins)} reads instead of "
                f"{record.num_reads}"
            )
        return answer

    def _request(self, request: Callable[[], T], record: JobRecord) -> T:
        """The result of a request that may be repeated."""
        try:
            return self._with_retries(request)
        except ServiceError as error:
            raise SolverUnavailable(
                f"Job {record.problem_id or record.label} on {self.device.name} cannot be fetched: "
                f"{error}. {self._kept()}"
            ) from None

    def _with_retries(self, action: Callable[[], T]) -> T:
        """Call until it succeeds, is refused, or has failed for too long."""
        policy = self.retry_policy
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((Unclear, Busy)),
            wait=tenacity.wait_exponential(policy.first_wait, policy.longest_wait)
            + tenacity.wait_random(0, policy.first_wait),
            stop=tenacity.stop_after_delay(policy.failing),
            sleep=self._pause,
            before_sleep=_log_failure,
            reraise=True,
        )
        return retrying(action)

    def _pause(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise BackendStopped(f"Interrupted while waiting for jobs. {self._kept()}")

    def _kept(self) -> str:
        return f"The journal {self.journal.folder} has its label and id: a later run picks it up."


def _log_failure(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    wait_for = state.next_action.sleep if state.next_action else 0.0
    log.warning("%s; trying again in %.1f s.", error, wait_for)
