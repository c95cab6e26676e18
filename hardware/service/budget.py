r"""A ceiling on the QPU access time of a run, checked before each submission and not after it."""

import math
import re
from threading import RLock

from qattn.backends.base import BackendStopped

SAFETY_MARGIN = 1.05
"""Factor on estimates beyond the worst error seen of them, which at first is none."""

_SECONDS = {
    "us": 1e-6,
    "µs": 1e-6,  # micro sign
    "μs": 1e-6,  # Greek mu
    "ms": 1e-3,
    "s": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
_TERM = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-zµμ]*)\s*", re.ASCII)


def parse_duration(text: str | int | float) -> float:
    """Seconds of a duration such as ``30s``, ``2min``, ``1.5 h``, ``500ms`` or ``1h 30min``.

    Units are us (or µs), ms, s, min, h and d. A number, or a text that is one number without a
    unit, counts in seconds.

    Raises:
        ValueError: It is not a duration, or negative, or not finite.

    >>> parse_duration("1h 30min")
    5400.0
    """
    wrong = ValueError(
        f"A duration must be a number of seconds or a text such as 30s, 2min, 1.5h or 500ms "
        f"(units: us, ms, s, min, h, d), but is {text!r}."
    )
    if isinstance(text, bool):
        raise wrong
    if isinstance(text, int | float):
        if not 0 <= text < math.inf:
            raise wrong
        return float(text)
    # Term after term, each a number and its unit; an empty text fails at its first.
    seconds, end = 0.0, 0
    while end < len(text) or end == 0:
        term = _TERM.match(text, end)
        if term is None:
            raise wrong
        whole = term.span() == (0, len(text))
        unit = term[2] or ("s" if whole else "")
        if unit not in _SECONDS:
            raise wrong
        seconds, end = seconds + float(term[1]) * _SECONDS[unit], term.end()
    if seconds == math.inf:
        raise wrong
    return seconds


def format_duration(seconds: float) -> str:
    """A duration to three digits for people: ``350 ms``, ``29.2 s``, ``12.5 min``, ``3.2 h``."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= (2 * size if size > 1 else 1):
            return f"{_three_digits(seconds / size)} {unit}"
    return f"{_three_digits(1e3 * seconds)} ms" if seconds else "0 s"


def _three_digits(value: float) -> str:
    return f"{value:.3g}" if value < 999.5 else f"{value:.0f}"  # not 1e+03


class BudgetExceeded(BackendStopped):
    """A submission that the ceiling does not allow; nothing was submitted.

    Attributes:
        needed: Seconds that the job would have to reserve, margin included.
        left: Seconds that were left.
        reserved: Seconds reserved by jobs in flight. If they take less than they reserved, there
            is room again: a caller may wait for them and try once more.
    """

    resume_flags = "--qpu-budget MORE"

    def __init__(self, message: str, needed: float, left: float, reserved: float) -> None:
        super().__init__(message)
        self.needed, self.left, self.reserved = needed, left, reserved


class QPUBudget:
    r"""Ceiling on QPU access time: what was spent and what is reserved never exceed it together.

    A job reserves its estimated time times a margin before it is submitted, and settles with the
    time that its answer reports. Estimates can be too low: the margin is :data:`SAFETY_MARGIN`
    at first, and a job that took :math:`r` times its estimate, more than the margin, raises it to
    SAFETY_MARGIN · :math:`r`, for the reservations still open as well. So the ceiling is kept as
    long as no job takes more than its estimate times the margin. All methods may be called from
    several threads.

    Args:
        limit: Seconds of QPU access time; None means no ceiling (time is added up all the same).
        spent: Seconds spent by the run that this one continues.
        worst_estimate: Largest ratio of the time that a job of that run took to its estimate.
        parts: Number of processes that divide the ceiling equally; this is the budget of one.

    Attributes:
        limit: The ceiling of this process, or None.
        spent: Seconds of the jobs that have settled, and of the run before.
        margin: Factor that a reservation puts on its estimate.

    Raises:
        ValueError: A number is negative or not finite.
    """

    def __init__(
        self,
        limit: float | None,
        spent: float = 0.0,
        worst_estimate: float = 0.0,
        parts: int = 1,
    ) -> None:
        if limit is not None:
            _check_seconds("limit", limit)
        _check_seconds("spent", spent)
        self.limit = None if limit is None else limit / parts
        self.parts = parts
        self.spent = spent
        learnt = worst_estimate > SAFETY_MARGIN
        self.margin = SAFETY_MARGIN * (worst_estimate if learnt else 1.0)
        self._open: set[Reservation] = set()
        self._lock = RLock()

    @property
    def reserved(self) -> float:
        """Seconds set aside for the jobs that have not, margin included."""
        with self._lock:
            return math.fsum(job.estimate for job in self._open) * self.margin

    @property
    def left(self) -> float:
        """Seconds that a reservation may still take; infinite without a ceiling."""
        with self._lock:
            if self.limit is None:
                return math.inf
            return max(0.0, self.limit - self.spent - self.reserved)

    def reserve(self, estimate: float) -> "Reservation":
        """Set time aside for a job about to be submitted.

        Args:
            estimate: Its estimated QPU access time in seconds.

        Raises:
            BudgetExceeded: The ceiling does not allow it.
            ValueError: The estimate is negative or not finite.
        """
        _check_seconds("estimate", estimate)
        with self._lock:
            needed, left = estimate * self.margin, self.left
            if needed > left:
                raise BudgetExceeded(self._refusal(needed), needed, left, self.reserved)
            return Reservation(self, estimate)

    def adopt(self, estimate: float) -> "Reservation":
        """Set time aside for a job submitted earlier, whatever the ceiling allows.

        Args:
            estimate: Its estimated QPU access time in seconds.

        Raises:
            ValueError: The estimate is negative or not finite.
        """
        _check_seconds("estimate", estimate)
        return Reservation(self, estimate)

    def _refusal(self, needed: float) -> str:
        whose = f" of each of {self.parts} processes" if self.parts > 1 else ""
        waiting = ""
        if self._open:
            waiting = f", {format_duration(self.reserved)} reserved for jobs in flight"
        return (
            f"The QPU budget of {format_duration(self.limit or 0.0)}{whose} does not allow another "
            f"job: {format_duration(self.spent)} spent{waiting}, and the next job needs "
            f"{format_duration(needed)}. Raise --qpu-budget to go on."
        )


class Reservation:
    """Time set aside for one job by :meth:`QPUBudget.reserve`.

    One that is neither settled nor cancelled, because nobody knows whether the job ran, keeps
    counting in full.
    """

    def __init__(self, budget: QPUBudget, estimate: float) -> None:
        self._budget, self.estimate = budget, estimate
        with budget._lock:
            budget._open.add(self)

    def settle(self, actual: float) -> None:
        """Settle: the job has run and took `actual` seconds of QPU access time.

        Raises:
            RuntimeError: It was settled or cancelled before.
            ValueError: The time is negative or not finite.
        """
        _check_seconds("actual", actual)
        budget = self._budget
        with budget._lock:
            self.cancel()
            budget.spent += actual
            if actual > self.estimate * budget.margin and self.estimate > 0:
                budget.margin = SAFETY_MARGIN * actual / self.estimate

    def cancel(self) -> None:
        """Cancel: the job has certainly not run, and its time is free again.

        Raises:
            RuntimeError: It was settled or cancelled before.
        """
        with self._budget._lock:
            if self not in self._budget._open:
                raise RuntimeError("This reservation was settled or cancelled before.")
            self._budget._open.remove(self)


def _check_seconds(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(
            f"Argument `{name}` must be a number of seconds, not negative and finite, "
            f"but is {value}."
        )
