"""Whether an arm is better than another, or no worse."""

from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar, Literal

from qattn.experiments.claims.comparison import Comparison
from qattn.experiments.claims.question import BETTER, SeedEffects
from qattn.experiments.claims.selection import common, metric_of
from qattn.experiments.results import Results, TrainingResult


@dataclass(frozen=True, kw_only=True)
class Difference(Comparison):
    """The gain of an arm over another: positive if it is better.

    Attributes:
        at: "end", or "curve": mean over the evaluations, which is better for who learns faster.
    """

    kind: ClassVar[str] = "difference"

    at: Literal["end", "curve"] = "end"

    def effects(self, results: Results) -> SeedEffects:
        """Gain at each seed that both arms have."""
        if self.at == "curve":
            self.check_same_steps(results)
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
