"""Whether an arm is better than another, or no worse."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any, ClassVar, Literal

from qattn.experiments.claims.question import BETTER, Question, SeedEffects
from qattn.experiments.claims.selection import Side, UndecidableError, common, metric_of
from qattn.experiments.results import Results, TrainingResult


@dataclass(frozen=True, kw_only=True)
class Difference(Question):
    """The gain of an arm over another: positive if it is better.

    Attributes:
        than: The other arm.
        metric: Metric that is compared.
        at: "end", or "curve": mean over the evaluations, which is better for who learns faster.
        than_part: Part of the other arm, if it is another one.
        than_where: Values of the grid for the other arm, if they are others.
    """

    kind: ClassVar[str] = "difference"

    than: str
    metric: str
    at: Literal["end", "curve"] = "end"
    than_part: str | None = None
    than_where: Mapping[str, Any] | None = None

    @property
    def other(self) -> Side:
        """The trainings with which it compares."""
        part = self.part if self.than_part is None else self.than_part
        return Side(part, self.than, self.where if self.than_where is None else self.than_where)

    @property
    def sides(self) -> list[Side]:
        """Both arms' trainings."""
        return [self.own, self.other]

    @property
    def unit(self) -> str:
        """The metric."""
        return self.metric

    def effects(self, results: Results) -> SeedEffects:
        """Gain at each seed that both arms have."""
        if self.at == "curve":
            trainings = [t for side in self.sides for t in side.trainings(results)]
            if len({tuple(training.curves["step"]) for training in trainings}) > 1:
                raise UndecidableError("the curves were evaluated at different steps")
        sign = BETTER[self.metric]
        arm, than = (side.by_seed(results, self._read)[None] for side in self.sides)
        seeds, dropped = common([arm, than])
        return SeedEffects({s: sign * (arm[s] - than[s]) for s in seeds}, dropped)

    def _read(self, training: TrainingResult) -> list[float]:
        """The metric of each member."""
        end = metric_of(training, self.metric)
        if self.at == "end":
            return end
        return [fmean(member) for member in zip(*training.curves[self.metric], strict=True)]


@dataclass(frozen=True, kw_only=True)
class NoWorse(Difference):
    """The gain of an arm over another is above -margin.

    Attributes:
        margin: Loss that does not matter, in units of the metric.
    """

    kind: ClassVar[str] = "no worse"

    margin: float

    @property
    def null(self) -> float:
        """The margin, downwards."""
        return -self.margin

    @property
    def relevant(self) -> float:
        """0: the margin says what is relevant."""
        return 0.0
