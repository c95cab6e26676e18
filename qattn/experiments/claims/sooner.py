"""Whether an arm gets to a value of a metric in fewer steps than another."""

import math
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any, ClassVar

from qattn.experiments.claims.comparison import Comparison
from qattn.experiments.claims.question import BETTER, SeedEffects
from qattn.experiments.claims.selection import UndecidableError, common, described
from qattn.experiments.results import Results, TrainingResult


@dataclass(frozen=True, kw_only=True)
class Sooner(Comparison):
    r"""How much sooner an arm gets to a value X of a metric than another, in halvings of steps.

    .. math:: x_i = \log_2 \frac{\min(S_i^\text{than}, N)}{\min(S_i^\text{arm}, N)}

    with S the step where the metric first is as good as X (:func:`steps_to`) and N the last step.
    A member that does not get there counts as one that does at N, the least that it can have
    needed: where one arm of a pair does not get there its effect keeps its sign and is too small,
    where neither does it is 0. If that is so at more than half of the seeds nothing is decided.

    X is `threshold`, or by `share` from means over seeds and both arms alike, so that arms which
    are the same have effects that are symmetric around 0:
    X = first + share · (last - first) of the evaluations. The other arm's own end would not do, as
    by its choice that arm needs all of its steps.

    Attributes:
        threshold: X; or else
        share: share of the way from the first evaluation to the last, below 1.
    """

    kind: ClassVar[str] = "sooner"

    threshold: float | None = None
    share: float | None = None

    @property
    def unit(self) -> str:
        """What is halved."""
        goal = "" if self.threshold is None else f" {self.threshold:g}"
        way = "" if self.share is None else f"{self.share:g} of the way in "
        return f"halvings of the steps to {way}{self.metric}{goal}"

    def goal(self, results: Results) -> float:
        """The value X.

        Raises:
            UndecidableError: The results lack something for it.
        """
        if self.threshold is not None:
            return self.threshold
        assert self.share is not None
        curves = [self._curve(t) for side in self.sides for t in side.trainings(results)]
        first, last = (fmean(x for curve in curves for x in curve[at]) for at in (0, -1))
        return first + self.share * (last - first)

    def effects(self, results: Results) -> SeedEffects:
        """Halvings of the steps at each seed that both arms have."""
        self.check_same_steps(results)
        X = self.goal(results)
        arm, than = (
            side.by_seed(results, lambda t: self._restricted(t, X))[None] for side in self.sides
        )
        seeds, dropped = common([arm, than])
        missed = [
            side.by_seed(results, lambda t: [float(s == math.inf) for s in self._steps(t, X)])[None]
            for side in self.sides
        ]
        neither = sum(all(side[s] for side in missed) for s in seeds)
        if 2 * neither > len(seeds):
            raise UndecidableError(
                f"at {neither} of {len(seeds)} seeds neither arm gets to {self.metric} {X:.4g}"
            )
        late = [
            f"{name} does not get to {X:.4g} at {int(number)} of {len(seeds)} seeds"
            for name, side in zip((self.arm, self.than), missed, strict=True)
            if (number := sum(side[s] for s in seeds))
        ]
        effects = {s: math.log2(than[s] / arm[s]) for s in seeds}
        return SeedEffects(effects, dropped, "; ".join(late))

    def _restricted(self, training: TrainingResult, X: float) -> list[float]:
        """Steps of each member, at most those that were trained."""
        last = float(max(training.curves["step"]))
        return [min(steps, last) for steps in self._steps(training, X)]

    def _steps(self, training: TrainingResult, X: float) -> list[float]:
        self._curve(training)
        steps = steps_to(training, self.metric, X)
        if min(steps) == -math.inf:
            raise UndecidableError(
                f"{described(training)} is at {self.metric} {X:.4g} when it is first evaluated"
            )
        return steps

    def _curve(self, training: TrainingResult) -> list[Any]:
        if self.metric not in training.curves:
            raise UndecidableError(f"the arm {training.arm} has no {self.metric}")
        return training.curves[self.metric]


def steps_to(training: TrainingResult, metric: str, value: float) -> list[float]:
    """Step at which each member's metric first is as good as a value.

    Between evaluations by the straight line from the one before to the first that is. A curve that
    gets worse again later has got there all the same.

    Returns:
        The steps; ∞ for a member that does not get there, -∞ for one that is there when it is first
        evaluated, at a step that is not known.
    """
    sign, steps = BETTER[metric], training.curves["step"]
    found: list[float] = []
    for curve in zip(*training.curves[metric], strict=True):
        if sign * curve[0] >= sign * value:
            found.append(-math.inf)
            continue
        for (s, x), (t, y) in pairwise(zip(steps, curve, strict=True)):
            if sign * y >= sign * value:
                found.append(float(s + (t - s) * (value - x) / (y - x)))
                break
        else:
            found.append(math.inf)
    return found
