"""What questions have that compare the metric of an arm with that of another."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qattn.experiments.claims.question import Question
from qattn.experiments.claims.selection import Side, UndecidableError
from qattn.experiments.results import Results


@dataclass(frozen=True, kw_only=True)
class Comparison(Question):
    """An arm against another one in a metric.

    Attributes:
        than: The other arm.
        metric: Metric that is compared.
        than_part: Part of the other arm, if it is another one.
        than_where: Values of the grid for the other arm, if they are others.
    """

    than: str
    metric: str
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

    def check_same_steps(self, results: Results) -> None:
        """Raise an UndecidableError unless all curves were evaluated at the same steps."""
        trainings = [t for side in self.sides for t in side.trainings(results)]
        if len({tuple(training.curves["step"]) for training in trainings}) > 1:
            raise UndecidableError("the curves were evaluated at different steps")
