"""What the journal knows of each call, of each of its jobs, and of each time that one was sent."""

from dataclasses import dataclass, field
from typing import Any

PLANNED = ("call", "part", "num_reads", "packing", "solver", "graph_id")
"""Fields of a job that are known when it is planned."""


@dataclass
class Sent:
    """One submission of a job.

    Attributes:
        label: The label under which the service lists it; no other submission has it.
        estimate: QPU access time that was expected, seconds.
        problem_id: The service's id, once it is known.
        seconds: QPU access time that it took; None until that is known.
    """

    label: str
    estimate: float
    problem_id: str | None = None
    seconds: float | None = None

    @property
    def charge(self) -> float:
        """QPU access time in seconds; the estimate as long as it may run or have run."""
        return self.estimate if self.seconds is None else self.seconds


@dataclass(slots=True, weakref_slot=True)
class JobRecord:
    """What the journal knows of one job.

    Attributes:
        name: Name of the job, unique in the journal; also the stem of its files.
        call: Name of the call that it serves.
        part: Which share of the call's reads it draws.
        num_reads: Number of reads.
        packing: Digest of the packing on which its problems lie.
        solver: Name of the solver.
        graph_id: The solver's working graph.
        status: planned, submitted, accepted, answered or ended.
        sent: Every submission, in order.
        current: The submission that `status` speaks of; None before the first.
        timing: The service's account of time, microseconds.
        message: Why it ended without an answer.
    """

    name: str
    call: str
    part: int
    num_reads: int
    packing: str
    solver: str
    graph_id: str
    status: str = "planned"
    sent: list[Sent] = field(default_factory=list)
    current: Sent | None = None
    timing: dict[str, float] = field(default_factory=dict)
    message: str = ""

    @classmethod
    def of(cls, event: dict[str, Any]) -> "JobRecord":
        """A job as its event "job" plans it."""
        return cls(event["job"], **{key: event[key] for key in PLANNED})

    @property
    def label(self) -> str:
        """The current submission's label."""
        return "" if self.current is None else self.current.label

    @property
    def problem_id(self) -> str | None:
        """The current submission's id."""
        return None if self.current is None else self.current.problem_id

    @property
    def access_time(self) -> float:
        """QPU access time of all submissions; the estimate of those that may have run."""
        return sum((sent.charge for sent in self.sent), 0.0)

    @property
    def resolved_access_time(self) -> float:
        """QPU access time of the submissions of which it is known."""
        return sum((sent.seconds for sent in self.sent if sent.seconds is not None), 0.0)

    @property
    def settled(self) -> bool:
        """Whether the job has come to its end, and the time of every submission is known."""
        ended = self.status in ("answered", "ended")
        return ended and all(sent.seconds is not None for sent in self.sent)

    @property
    def doubtful(self) -> list[Sent]:
        """Submissions beside the current one which may run or have run."""
        waited_for = self.current if self.status in ("submitted", "accepted") else None
        return [sent for sent in self.sent if sent.seconds is None and sent is not waited_for]

    def apply(self, event: dict[str, Any]) -> "JobRecord":
        """Follow an event of the journal.

        Raises:
            ValueError: It is not an event of a job.
            KeyError: It lacks a field.
        """
        kind = event["event"]
        if kind == "submit":
            self.status, self.current = "submitted", Sent(event["label"], event["estimate"])
            self.sent.append(self.current)
            return self
        sent = self._meant(event)
        if kind == "duplicate":
            sent.problem_id, sent.seconds = event["problem_id"], event["seconds"]
            return self
        self.current = sent
        if kind == "rejected":
            self.status, self.message, sent.seconds = "planned", event["message"], 0.0
        elif kind == "unseen":
            self.status, self.message = "planned", event["message"]
        elif kind == "accepted":
            self.status, sent.problem_id = "accepted", event["problem_id"]
        elif kind == "ended":
            sent.seconds = sent.charge if event["charged"] else 0.0
            self.status, self.message = "ended", event["message"]
        elif kind == "answer":
            self.status, self.timing = "answered", event["timing"]
            sent.seconds = self.timing.get("qpu_access_time", sent.estimate * 1e6) * 1e-6
        else:
            raise ValueError(f"unknown event {kind!r}")
        return self

    def _meant(self, event: dict[str, Any]) -> Sent:
        """The submission of an event: that of its label, else the current one."""
        if "label" in event:
            # The latest: in the first format every submission of a job had the same label.
            named = [sent for sent in self.sent if sent.label == event["label"]]
            if not named:
                raise ValueError(f"label {event['label']} was never sent")
            return named[-1]
        if self.current is None:  # the line of its "submit" was lost
            self.current = Sent("", 0.0)
            self.sent.append(self.current)
        return self.current


@dataclass(slots=True, weakref_slot=True)
class CallRecord:
    """One call of ``sample``.

    Attributes:
        name: Name of the call in the journal: a digest of `digest` and `settings`.
        digest: Digest of the models, the number of reads and the seed
            (:func:`qattn.hardware.calls.journal.request_digest`).
        settings: Settings of the backend.
        details: What else the backend recorded: betas, solver, whether it is emulated.
        jobs: The jobs of the call, in the order planned.
    """

    name: str
    digest: str
    settings: dict[str, Any]
    details: dict[str, Any]
    jobs: list[JobRecord] = field(default_factory=list)

    @classmethod
    def of(cls, event: dict[str, Any]) -> "CallRecord":
        """A call as its event "call" describes it."""
        return cls(event["call"], event["digest"], event["settings"], event["details"])

    @property
    def finished(self) -> bool:
        """Whether all jobs are settled; one more may be planned if an answer is lost."""
        return bool(self.jobs) and all(job.settled for job in self.jobs)
