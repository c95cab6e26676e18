r"""The way of β and of the learning rate along a fit.

β starts where the net as it is has an effective share of reads of at least :data:`ENOUGH`, is at
its target after :data:`RISE` of the budget, and moves on only while the share is at least that
much; it never lags behind its way by more than :data:`LAG` of the budget. The learning rate is
constant until then, and falls to :data:`LAST_RATE` of it along a cosine; from the start, where β
starts at its target. Where the free energy has stopped falling before, the rest is over soon.
"""

import math
from collections import deque
from dataclasses import dataclass, field

ENOUGH = 0.5
"""Effective share of reads at which β moves on."""

RISE = 0.6
"""Share of the budget after which β is to be at its target, and the learning rate falls."""

LAG = 0.2
"""Share of the budget by which β may be late."""

CATCH_UP = 2.0
"""Pace at which it catches up, relative to its planned one."""

LAST_RATE = 0.03
"""Learning rate at the end, relative to that at the start."""

WINDOW = 50
"""Steps over which free energies are averaged to see whether they still fall."""

WINDOWS = 4
"""Such averages that must not fall for the fit to be near its end."""

SHORTENED = 0.25
"""Steps of the last fall after a plateau, relative to those before it."""


@dataclass
class Schedule:
    """β and learning rate of the next step.

    Attributes:
        first: β at the start.
        target: β at the end.
        beta: β of the next step.
        ess: Effective share of reads, averaged over recent steps.
        at: Share of the budget that was spent when β last moved.
        fall_from: Share of the budget at which a plateau was found; None if there was none.
        averages: Mean ln q + βE over windows of steps at the target β, and their errors.
    """

    first: float
    target: float
    beta: float
    ess: float = 1.0
    at: float = 0.0
    fall_from: float | None = None
    averages: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=WINDOWS + 1))
    _window: list[tuple[float, float]] = field(default_factory=list, init=False)

    @classmethod
    def between(cls, first: float, target: float) -> "Schedule":
        """A schedule at its start."""
        return cls(first, target, first)

    def record(self, spent: float, ess: float, mean: float, error: float) -> None:
        """Take note of a step, and move β.

        Args:
            spent: Share of the budget that is spent.
            ess: Effective share of reads in the step.
            mean: Mean ln q + βE of its reads.
            error: Standard error of that.
        """
        self.ess = 0.8 * self.ess + 0.2 * ess
        if self.beta == self.target:
            self._look_for_a_plateau(spent, mean, error)
            return
        pace = (self.target - self.first) / RISE
        if self.ess >= ENOUGH:
            self.beta = min(
                self._planned(spent), self.beta + CATCH_UP * pace * (spent - self.at), self.target
            )
        self.beta = max(self.beta, self._planned(spent - LAG))
        self.at = spent

    def rate(self, spent: float) -> float:
        """Learning rate relative to that at the start."""
        begin = RISE if self.first < self.target else 0.0
        fallen = (spent - begin) / (1 - begin)
        if self.fall_from is not None:
            length = SHORTENED * max(self.fall_from, 0.1)
            fallen = max(fallen, (spent - self.fall_from) / length)
        fallen = min(max(fallen, 0.0), 1.0)
        return LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * fallen)) / 2

    def is_over(self, spent: float) -> bool:
        """Whether the budget is spent, or what a plateau left of it."""
        return spent >= 1 or (self.fall_from is not None and self.rate(spent) <= LAST_RATE)

    def state_dict(self) -> dict[str, object]:
        """All of it, as plain values."""
        return vars(self) | {"averages": list(self.averages)}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Restore :meth:`state_dict`."""
        vars(self).update(state)
        self.averages = deque(self.averages, maxlen=WINDOWS + 1)

    def _planned(self, spent: float) -> float:
        """β on its way, if nothing kept it."""
        done = min(max(spent / RISE, 0.0), 1.0)
        return self.target if done == 1 else self.first + (self.target - self.first) * done

    def _look_for_a_plateau(self, spent: float, mean: float, error: float) -> None:
        """Free energies fall by less than their noise from one window to the last of several."""
        self._window.append((mean, error))
        if len(self._window) < WINDOW:
            return
        means, errors = zip(*self._window, strict=True)
        self.averages.append((sum(means) / WINDOW, math.hypot(*errors) / WINDOW))
        self._window.clear()
        if len(self.averages) == WINDOWS + 1 and self.fall_from is None and spent < RISE:
            (before, its_error), *later = self.averages
            now, now_error = min(later)
            if before - now < math.hypot(its_error, now_error):
                self.fall_from = spent
