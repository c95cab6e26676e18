"""What became of each submission: sent once, found again, or counted twice; never lost.

A submission without a response may run. Its label, which is on the disk before it is sent, finds it
at the service, but nobody promises how soon. So:

- the label is looked up for :attr:`RetryPolicy.unseen` seconds and
  :attr:`RetryPolicy.listings` times, from the moment at which the failure was noticed;
- a job that is not there by then is sent again, under a label of its own. The first submission
  stays charged, in the journal and in the budget, and the second reserves its time beside it;
- whichever is answered first is used. The other is looked for after the answer and when the device
  is closed: if it still waits it is cancelled, if it ran its time is counted.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from qattn.backends.base import BackendStopped
from qattn.hardware.calls.journal import Journal
from qattn.hardware.calls.records import JobRecord, Sent
from qattn.hardware.service.budget import QPUBudget, Reservation
from qattn.hardware.service.device import Device, SolverUnavailable
from qattn.hardware.service.retry import Retrier
from qattn.hardware.service.solver_api import (
    JobStatus,
    Refused,
    ServiceError,
    Unclear,
)

log = logging.getLogger("qattn.hardware")

T = TypeVar("T")

_REFUSAL = re.compile(
    r"out of range|exceed|limit|invalid|unknown parameter|not (supported|allowed|accepted)|"
    r"cannot be used|must (be|have)|mutually exclusive|\d > \d|graph has changed",
    re.IGNORECASE,
)
"""Words with which a problem is turned away before it is programmed."""

_RAN = re.compile(r"internal|time(d)?[- ]?out|offline", re.IGNORECASE)
"""Words with which a problem may have failed on the processor."""


class JobRefused(BackendStopped):
    """The service did not accept a job: it has not run."""


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


def was_charged(status: JobStatus, *, ran: bool) -> bool:
    """Whether a FAILED job counts as spent, at its estimate.

    D-Wave does not charge problems that it turns away (solver parameters: "rejected" problems; the
    QMI run-time limit, operation_timing). Its answer to a job that failed says nothing of time, and
    its messages are not documented: a job is taken for turned away only if its message speaks of a
    range, a limit or a parameter, and nobody saw it run. In doubt it counts: rather a charge too
    many in our account than one too few.

    Args:
        status: The state of the job.
        ran: Whether it was seen IN_PROGRESS.
    """
    refused = _REFUSAL.search(status.message) and not _RAN.search(status.message)
    return ran or not refused


class Submissions:
    """Sends the jobs of a journal and keeps account of every submission.

    Args:
        device: The solver; assign to change it.
        journal: The journal, to which every step is written before the next one.
        budget: Ceiling on QPU access time.
        retrier: Repeats requests.
    """

    def __init__(
        self, device: Device, journal: Journal, budget: QPUBudget, retrier: Retrier
    ) -> None:
        self.device, self.journal, self.budget, self.retrier = device, journal, budget, retrier
        self._reservations: dict[str, Reservation] = {}
        self.adopt()

    def adopt(self) -> None:
        """Set time aside for every submission of the journal whose fate is not known."""
        for record in self.journal.calls.unfinished_jobs:
            for sent in record.sent:
                if sent.seconds is None and sent.label not in self._reservations:
                    self._reservations[sent.label] = self.budget.adopt(sent.estimate)

    def _settle(self, sent: Sent) -> None:
        """Take the journal's account of a submission over into the budget."""
        reservation = self._reservations.pop(sent.label, None)
        if reservation is not None and sent.seconds:
            reservation.settle(sent.seconds)
        elif reservation is not None:
            reservation.cancel()

    def send(self, record: JobRecord, job: EmbeddedJob) -> None:
        """Return when the service has accepted a job, and its id is in the journal.

        Raises:
            JobRefused: It was not accepted.
            BudgetExceeded: It does not fit into the budget.
            SolverUnavailable: The service has not responded for too long.
        """

        def attempt() -> None:
            if self._found_earlier(record):
                return
            self._post(record, job)
            if record.status == "submitted":
                self.resolve(record)
            if record.status == "planned":
                raise Unclear(record.message)

        try:
            self.retrier.call(attempt)
        except Refused as error:
            raise JobRefused(f"{self.device.name} did not accept a job: {error}.") from None
        except Unclear as error:
            raise SolverUnavailable(
                f"The service of {self.device.name} has not responded to a submission for "
                f"{self.retrier.policy.failing:g} s: {error}."
            ) from None

    def _post(self, record: JobRecord, job: EmbeddedJob) -> None:
        estimate = self.device.access_time(len(job.linear), job.params)
        label = f"qattn-{self.journal.id}-{record.name}"
        if record.sent:  # no two submissions share a label, so that each can be found
            label += f"-r{len(record.sent) + 1}"
        reservation = self.budget.reserve(estimate)
        try:
            self.journal.submitting(record.name, label, estimate)
        except BaseException:
            reservation.cancel()
            raise
        self._reservations[label] = reservation
        service, solver = self.device.service, self.device.solver
        try:
            problem_id = service.submit(solver, job.linear, job.quadratic, job.params, label)
        except Refused as error:
            self.journal.rejected(record.name, str(error))
            self.settle_current(record)
            raise
        except Unclear as error:
            log.warning("Job %s: %s; looking for it at the service.", record.name, error)
        else:
            self.journal.accepted(record.name, problem_id)

    def settle_current(self, record: JobRecord) -> None:
        """Take what the journal says of a job's current submission over into the budget."""
        assert record.current is not None
        self._settle(record.current)

    def resolve(self, record: JobRecord) -> None:
        """Find out by its label whether a job without a response was accepted.

        The clock is monotonic and starts here: in a run that picks the job up, it starts anew.
        """
        policy, noticed = self.retrier.policy, monotonic()
        listings, pause = 0, policy.first_wait
        while True:
            late = monotonic() - noticed >= policy.unseen
            status = self.request(lambda: self.device.service.find(record.label), record)
            if status is not None:
                self.journal.accepted(record.name, status.problem_id)
                return
            listings += 1
            if late and listings >= policy.listings:
                self.journal.unseen(record.name, "no job of its label at the service")
                return
            left = policy.unseen - (monotonic() - noticed)
            self.retrier.pause(min(pause, max(left, policy.first_wait)))
            pause = min(2 * pause, max(policy.unseen / 6, policy.first_wait))

    def _found_earlier(self, record: JobRecord) -> bool:
        """Whether an earlier submission of a job has turned up; it is then waited for."""
        for sent in record.doubtful:
            status = self.request(partial(self._state, sent), record)
            if status is None:
                continue
            if status.status in ("FAILED", "CANCELLED"):
                self._count(record, sent, status)
                continue
            log.warning("Job %s was accepted after all.", record.name)
            self.journal.accepted(record.name, status.problem_id, sent.label)
            return True
        return False

    def prefer_answered(self, record: JobRecord) -> bool:
        """Whether an earlier submission of a job has its answer, which is then the one used."""
        for sent in record.doubtful:
            status = self.request(partial(self._state, sent), record)
            if status is not None and status.status == "COMPLETED":
                self.journal.accepted(record.name, status.problem_id, sent.label)
                return True
        return False

    def settle_others(self, record: JobRecord) -> None:
        """Cancel or count the submissions of an answered job beside the one that was used.

        One that the service does not list stays charged at its estimate.

        Raises:
            ServiceError: The service cannot be asked.
        """
        for sent in record.doubtful:
            status = self._state(sent)
            if status is not None and status.status == "PENDING":
                status = self.device.service.cancel(status.problem_id)
            if status is not None and status.status in ("PENDING", "IN_PROGRESS"):
                wait = min(5.0, self.retrier.policy.poll)
                status = self.device.service.status(status.problem_id, wait)
            if status is not None:
                self._count(record, sent, status)

    def settle_all(self) -> None:
        """:meth:`settle_others` of all jobs, as far as the service can be asked at once."""
        doubtful = [record for record in self.journal.calls.unfinished_jobs if record.doubtful]
        try:
            for record in doubtful:
                self.settle_others(record)
        except (ServiceError, BackendStopped) as error:
            log.warning("%s; what may have been sent twice stays charged.", error)

    def _state(self, sent: Sent) -> JobStatus | None:
        service = self.device.service
        if sent.problem_id is not None:
            return service.status(sent.problem_id, 0.0)
        return service.find(sent.label)

    def _count(self, record: JobRecord, sent: Sent, status: JobStatus) -> None:
        """Write down what an ended submission took, if it is one."""
        if status.status == "COMPLETED":
            timing = self.device.service.answer(status.problem_id).timing
            seconds = timing.get("qpu_access_time", sent.estimate * 1e6) * 1e-6
        elif status.status == "FAILED":
            seconds = sent.estimate if was_charged(status, ran=False) else 0.0
        elif status.status == "CANCELLED":
            seconds = 0.0
        else:
            return
        state, name = status.status, record.name
        self.journal.duplicate(name, sent.label, status.problem_id, state, seconds)
        self._settle(sent)
        log.warning("Job %s was sent twice: the other was %s, %.3g s.", name, state, seconds)

    def request(
        self,
        request: Callable[[], T],
        record: JobRecord,
        passing: tuple[type[ServiceError], ...] = (),
    ) -> T:
        """The result of a request that may be repeated; errors of `passing` are left as they are.

        Raises:
            SolverUnavailable: It was refused, or failed for too long.
        """
        try:
            return self.retrier.call(request)
        except passing:
            raise
        except ServiceError as error:
            raise SolverUnavailable(
                f"Job {record.problem_id or record.label} on {self.device.name} cannot be fetched: "
                f"{error}. {self.kept}"
            ) from None

    @property
    def kept(self) -> str:
        """What a line says of a job that is left at the service."""
        return f"The journal {self.journal.folder} has its label and id: a later run picks it up."
