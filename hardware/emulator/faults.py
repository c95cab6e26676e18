"""Faults on request: what the service does instead of what it should."""

import threading
from dataclasses import dataclass
from typing import Any

REQUESTS = ("solvers", "submit", "poll", "answer", "list", "cancel")
"""Kinds of request: solver definitions, POST problems/, GET problems/?id=, GET problems/ID/,
GET problems/?label=, DELETE problems/."""

REQUEST_KINDS = (
    *("drop", "drop-after", "slow", "version", "truncated", "corrupt", "corrupt-answer"),
    *("redirect", "tls", "slow-accept"),
)
"""Faults of a request, beside HTTP statuses: the connection is closed before the request is
handled, or after it without a response; the response comes late; names another API version; stops
half-way; is no JSON; has an answer that is not base64 (of requests "answer"); sends the request to
another address, before it is handled; is a TLS record that cannot be decrypted (of an emulator
that serves https); is handled late, so that a job is taken in after its client gave up."""

JOB_KINDS = (
    *("offline", "failed", "cancelled", "no-answer", "pending", "rejected"),
    *("list-lag", "gone"),
)
"""Outcomes of an accepted job ("rejected": of a job that is not accepted). A job may also be listed
late, and be unknown (HTTP 410) some time after it was accepted, though it ran."""

OUTCOME_MESSAGES = {
    "offline": "Solver is offline",
    "failed": "Problem failed: internal error of the quantum processor",
    "rejected": "Problem not accepted because user has insufficient remaining solver access time",
}
"""What the service says of these outcomes."""


@dataclass(frozen=True)
class Fault:
    """One kind of failure, at one place.

    Args:
        where: One of :data:`REQUESTS`, or "job".
        kind: An HTTP status ("429"), the same with "-after" (the request is handled all the same),
            or one of :data:`REQUEST_KINDS`; of :data:`JOB_KINDS` where `where` is "job" (or
            "submit", which means the same there; "answer" takes "no-answer").
        times: Number of requests or jobs that it applies to.
        after: Number of requests or jobs that pass before it first applies.
        seconds: How late a response is ("slow", "slow-accept"), how long a job is pending, how
            late it is listed ("list-lag"), or how long it is known ("gone").

    Raises:
        ValueError: There is no such place or kind, or a number is negative.
    """

    where: str
    kind: str
    times: int = 1
    after: int = 0
    seconds: float = 1.0

    def __post_init__(self) -> None:
        if self.where not in (*REQUESTS, "job"):
            raise ValueError(
                f"Argument `where` must be one of {', '.join(REQUESTS)}, job, but is "
                f"{self.where!r}."
            )
        if self.kind in JOB_KINDS and self.where == "submit":
            object.__setattr__(self, "where", "job")
        if not self._is_known():
            kinds = JOB_KINDS if self.where == "job" else ("an HTTP status", *REQUEST_KINDS)
            raise ValueError(
                f"Argument `kind` at {self.where!r} must be one of {', '.join(kinds)}, "
                f"but is {self.kind!r}."
            )
        if self.times < 1 or self.after < 0 or self.seconds < 0:
            raise ValueError(
                f"Arguments `times` must be positive, `after` and `seconds` not negative, but "
                f"they are {self.times}, {self.after} and {self.seconds}."
            )

    def _is_known(self) -> bool:
        if self.where == "job":
            return self.kind in JOB_KINDS
        if (self.where, self.kind) == ("answer", "no-answer"):
            return True
        if self.kind == "corrupt-answer":
            return self.where == "answer"
        return self.kind in REQUEST_KINDS or self.status is not None

    @property
    def status(self) -> int | None:
        """The HTTP status, if the kind is one."""
        digits = self.kind.removesuffix("-after")
        return int(digits) if digits.isdigit() and 400 <= int(digits) < 600 else None

    @property
    def handled(self) -> bool:
        """Whether the request is handled before it fails."""
        before = self.status is not None or self.kind in ("drop", "redirect")
        return self.kind.endswith("-after") or not before

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """A fault from ``where:kind[:times[:after[:seconds]]]``.

        Raises:
            ValueError: The text is not of this form.
        """
        where, *rest = text.split(":")
        if not 1 <= len(rest) <= 4:
            raise ValueError(
                f"Argument `fault` must be where:kind[:times[:after[:seconds]]], but is {text!r}."
            )
        try:
            kinds = (int, int, float)
            numbers: list[Any] = [kind(x) for kind, x in zip(kinds, rest[1:], strict=False)]
        except ValueError:
            raise ValueError(
                f"Argument `fault` must have numbers after where:kind, but is {text!r}."
            ) from None
        return cls(where, rest[0], *numbers)


class FaultQueue:
    """Faults that wait for their request or job; the first queued that is due applies to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[tuple[Fault, list[int]]] = []

    def add(self, fault: Fault) -> None:
        """Queue a fault."""
        with self._lock:
            self._waiting.append((fault, [fault.after, fault.times]))

    def clear(self) -> None:
        """Forget all faults that have not happened."""
        with self._lock:
            self._waiting.clear()

    def next(self, where: str) -> Fault | None:
        """The fault that applies to this request or job, which counts it; None if none does."""
        with self._lock:
            for entry in self._waiting:
                fault, left = entry
                if fault.where != where:
                    continue
                if left[0] > 0:
                    left[0] -= 1
                    continue
                left[1] -= 1
                if left[1] == 0:
                    self._waiting.remove(entry)
                return fault
            return None
