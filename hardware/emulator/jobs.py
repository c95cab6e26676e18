"""The jobs of an emulated processor: queue, states and account."""

import json
import math
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from qattn._atomic import write_atomically

TERMINAL = ("COMPLETED", "FAILED", "CANCELLED")
"""States that do not change any more."""


@dataclass(kw_only=True)
class AccountEntry:
    """An accepted job in the emulator's own account.

    Attributes:
        id: Problem id.
        label: Label, or None.
        status: PENDING, IN_PROGRESS, COMPLETED, FAILED or CANCELLED.
        num_reads: Number of reads that the job requested.
        num_qubits: Active qubits.
        access_time_us: QPU access time in µs; 0 unless it ran.
        times_answered: How often its answer was sent in full.
        error_message: Why it failed, or None.
    """

    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    label: str | None = None
    status: str = "PENDING"
    num_reads: int = 0
    num_qubits: int = 0
    access_time_us: float = 0.0
    times_answered: int = 0
    error_message: str | None = None


@dataclass(eq=False)
class Job(AccountEntry):
    """A job and its request, while it lives."""

    index: int
    request: Mapping[str, Any]
    identity: Mapping[str, Any]
    outcome: str | None = None
    ready_at: float = 0.0
    listed_at: float = 0.0
    gone_at: float = math.inf
    submitted_on: str = field(default_factory=lambda: _now())
    solved_on: str | None = None
    answer: str | None = None

    def __post_init__(self) -> None:
        self.label = self.request.get("label")
        self.type = self.request.get("type", "ising")
        reads = (self.request.get("params") or {}).get("num_reads", 1)
        self.num_reads = reads if isinstance(reads, int) else 0

    def account_entry(self) -> AccountEntry:
        """A snapshot of the job for the account."""
        return AccountEntry(
            **{item.name: getattr(self, item.name) for item in fields(AccountEntry)}
        )

    @property
    def listed(self) -> bool:
        """Whether a listing by label shows the job."""
        return self.listed_at <= time.monotonic() and not self.gone

    @property
    def gone(self) -> bool:
        """Whether the service has forgotten the job; the account has not."""
        return self.gone_at <= time.monotonic()

    def message(self) -> dict[str, Any]:
        """The job's status as SAPI states it, without the answer."""
        message = {
            "id": self.id,
            "type": self.type,
            "solver": self.identity,
            "label": self.label,
            "status": self.status,
            "submitted_on": self.submitted_on,
        }
        if self.solved_on is not None:
            message["solved_on"] = self.solved_on
        if self.error_message is not None:
            message["error_message"] = self.error_message
        return message


class JobQueue:
    """All jobs, in the order of acceptance; one runs at a time.

    Attributes:
        on_change: Called without any lock, in the thread that made the change, whenever the
            account has changed.
        closed: Whether the queue was closed; then no job starts any more.
    """

    def __init__(self) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self._changed = threading.Condition()
        self._jobs: dict[str, Job] = {}
        self._waiting: list[Job] = []
        self.closed = False

    def accept(
        self,
        request: Mapping[str, Any],
        identity: Mapping[str, Any],
        outcome: str | None = None,
        delay: float = 0.0,
    ) -> Job:
        """Put a job into the queue.

        Args:
            request: What was submitted.
            identity: The solver's identity.
            outcome: A kind of fault of jobs, or None.
            delay: Seconds before it starts ("pending"), is listed ("list-lag") or is no longer
                known ("gone").
        """
        with self._changed:
            job = Job(len(self._jobs), request, identity, outcome)
            moment = {"pending": "ready_at", "list-lag": "listed_at", "gone": "gone_at"}
            if outcome in moment:
                setattr(job, moment[outcome], time.monotonic() + delay)
            self._jobs[job.id] = job
            self._waiting.append(job)
            self._changed.notify_all()
        self.on_change()
        return job

    def start_next(self) -> Job | None:
        """Wait for a job that is due and mark it IN_PROGRESS; None when the queue is closed."""
        with self._changed:
            while not self.closed:
                job = min(self._waiting, key=lambda job: (job.ready_at, job.index), default=None)
                delay = None if job is None else job.ready_at - time.monotonic()
                if job is None or delay is None or delay > 0:
                    self._changed.wait(delay)
                    continue
                self._waiting.remove(job)
                job.status = "IN_PROGRESS"
                self._changed.notify_all()
                return job
            return None

    def finish(self, job: Job, status: str, **changes: Any) -> None:
        """Bring a job into a terminal state."""
        self._end(job, status, changes)
        self.on_change()

    def _end(self, job: Job, status: str, changes: Mapping[str, Any]) -> None:
        with self._changed:
            for name, value in changes.items():
                setattr(job, name, value)
            job.request, job.status, job.solved_on = {}, status, _now()
            self._changed.notify_all()

    def cancel(self, ids: Iterable[str]) -> list[Job | None]:
        """Cancel those that have not started; None for an unknown id."""
        with self._changed:
            jobs = self.get(ids)
            for job in jobs:
                if job is not None and job.status == "PENDING":
                    self._waiting.remove(job)
                    self._end(job, "CANCELLED", {})
        self.on_change()
        return jobs

    def answered(self, job: Job) -> None:
        """Count an answer that was sent in full."""
        with self._changed:
            job.times_answered += 1
        self.on_change()

    def get(self, ids: Iterable[str]) -> list[Job | None]:
        """The jobs with these ids; None for an unknown id."""
        with self._changed:
            return [self._jobs.get(id_) for id_ in ids]

    def wait_any(self, jobs: Iterable[Job], timeout: float) -> None:
        """Return when one of them is in a terminal state, at the latest after `timeout` seconds."""
        jobs = list(jobs)
        with self._changed:
            self._changed.wait_for(
                lambda: self.closed or any(job.status in TERMINAL for job in jobs), timeout
            )

    @property
    def account(self) -> list[AccountEntry]:
        """Entries of all accepted jobs, oldest first."""
        return [job.account_entry() for job in self.all()]

    def all(self) -> list[Job]:
        """Every accepted job, oldest first."""
        with self._changed:
            return list(self._jobs.values())

    def close(self) -> None:
        """Wake every waiter for the last time."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()


def account_writer(file: Path, solver: str, queue: JobQueue) -> Callable[[], None]:
    """A function that writes the account as JSON; a reader never sees half of it, nor a token."""
    lock = threading.Lock()

    def write() -> None:
        with lock:
            jobs = queue.account
            account = {
                "solver": solver,
                "emulated": True,
                "access_time_us": sum((job.access_time_us for job in jobs), 0.0),
                "jobs": [asdict(job) for job in jobs],
            }
            write_atomically(file, json.dumps(account, indent=1).encode())

    return write


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
