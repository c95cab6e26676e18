"""The jobs of an emulated processor: queue, states and account."""

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

TERMINAL = ("COMPLETED", "FAILED", "CANCELLED")
"""States that do not change any more."""


@dataclass(frozen=True)
class JobRecord:
    """What the emulator's own account says of an accepted job.

    Attributes:
        id: Problem id.
        label: Label, or None.
        status: PENDING, IN_PROGRESS, COMPLETED, FAILED or CANCELLED.
        num_reads: Reads that were asked for.
        num_qubits: Active qubits.
        access_time_us: QPU access time in µs; 0 unless it ran.
        times_answered: How often its answer was sent in full.
        error_message: Why it failed, or None.
    """

    id: str
    label: str | None
    status: str
    num_reads: int
    num_qubits: int
    access_time_us: float
    times_answered: int
    error_message: str | None


@dataclass(eq=False)
class Job:
    """A job and its request, while it lives."""

    index: int
    request: Mapping[str, Any]
    identity: Mapping[str, Any]
    outcome: str | None = None
    ready_at: float = 0.0
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: str = "PENDING"
    submitted_on: str = field(default_factory=lambda: _now())
    solved_on: str | None = None
    error_message: str | None = None
    answer: str | None = None
    num_qubits: int = 0
    access_time_us: float = 0.0
    times_answered: int = 0

    def __post_init__(self) -> None:
        self.label = self.request.get("label")
        self.type = self.request.get("type", "ising")
        reads = (self.request.get("params") or {}).get("num_reads", 1)
        self.num_reads = reads if isinstance(reads, int) else 0

    def record(self) -> JobRecord:
        """A snapshot for the account."""
        return JobRecord(
            self.id,
            self.label,
            self.status,
            self.num_reads,
            self.num_qubits,
            self.access_time_us,
            self.times_answered,
            self.error_message,
        )

    def message(self) -> dict[str, Any]:
        """Its status as SAPI tells it, without the answer."""
        found = {
            "id": self.id,
            "type": self.type,
            "solver": self.identity,
            "label": self.label,
            "status": self.status,
            "submitted_on": self.submitted_on,
        }
        if self.solved_on is not None:
            found["solved_on"] = self.solved_on
        if self.error_message is not None:
            found["error_message"] = self.error_message
        return found


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
        """Put a job into the queue; it does not start before `delay` seconds have passed."""
        with self._changed:
            ready = time.monotonic() + delay if delay else 0.0
            job = Job(len(self._jobs), request, identity, outcome, ready)
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
                left = None if job is None else job.ready_at - time.monotonic()
                if job is None or left is None or left > 0:
                    self._changed.wait(left)
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
        chosen = list(jobs)
        with self._changed:
            self._changed.wait_for(
                lambda: self.closed or any(job.status in TERMINAL for job in chosen), timeout
            )

    def all(self) -> list[Job]:
        """Every accepted job, oldest first."""
        with self._changed:
            return list(self._jobs.values())

    def close(self) -> None:
        """Wake every waiter for the last time."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
