"""What the journal knows of each call and of each of its jobs."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
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
        label: The label under which the service lists its latest submission.
        status: planned, submitted, accepted, answered or ended.
        submitted: Time of the last submission, seconds since the epoch.
        estimate: QPU access time that was expected, seconds.
        problem_id: The service's id.
        timing: The service's account of time, microseconds.
        message: Why it ended without an answer.
        lost: QPU access time of submissions that ended without an answer, seconds.
    """

    name: str
    call: str
    part: int
    num_reads: int
    packing: str
    solver: str
    graph_id: str
    label: str = ""
    status: str = "planned"
    submitted: float = 0.0
    estimate: float = 0.0
    problem_id: str | None = None
    timing: dict[str, float] = field(default_factory=dict)
    message: str = ""
    lost: float = 0.0

    @property
    def access_time(self) -> float:
        """QPU access time in seconds; the estimate where the job may have run unanswered."""
        if self.status == "answered":
            return self.lost + self.timing.get("qpu_access_time", self.estimate * 1e6) * 1e-6
        return self.lost + (self.estimate if self.status in ("submitted", "accepted") else 0.0)


@dataclass
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
