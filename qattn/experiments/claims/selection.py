"""What a claim needs of an experiment's trainings: numbers by seed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from qattn.experiments.results import MissingTraining, Results, TrainingResult
from qattn.training.config import TrainConfig

BySeed = dict[int, float]


class UndecidableError(ValueError):
    """Results have not got what a claim is about; the message says what they lack."""


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes:
        part: Name of the experiment's part.
        arm: Label of the arm.
        where: Values of the grid, by setting; a list holds several.
    """

    part: str
    arm: str
    where: Mapping[str, Any] = field(default_factory=dict)

    def covers(self, training: TrainingResult | MissingTraining) -> bool:
        """Whether a training is of this side."""
        return (self.part, self.arm) == (training.part, training.arm) and all(
            training.point.get(name) in values(wanted) for name, wanted in self.where.items()
        )

    def trainings(self, results: Results) -> list[TrainingResult]:
        """Its trainings.

        Raises:
            UndecidableError: There are none, or one of them is not at its end.
        """
        missing = [described(each) for each in results.missing if self.covers(each)]
        found = [training for training in results.trainings if self.covers(training)]
        if not found and not missing:
            missing = [" at ".join(filter(None, (self.arm, point(self.where))))]
        if missing:
            raise UndecidableError(f"not trained to the end: {'; '.join(missing)}")
        return found

    def by_seed(
        self, results: Results, read: Callable[[TrainingResult], list[float]], over: str = ""
    ) -> dict[Any, BySeed]:
        """What `read` finds for each member, by value of the setting `over` and then by seed.

        Raises:
            UndecidableError: A training is missing, or a number is not finite.
            ValueError: A seed has two trainings.
        """
        table: dict[Any, BySeed] = {}
        for training in self.trainings(results):
            column = table.setdefault(setting(training, over) if over else None, {})
            for seed, number in zip(training.seeds, read(training), strict=True):
                if seed in column:
                    raise ValueError(f"seed {seed} has two trainings of {described(training)}")
                if not abs(number) < float("inf"):
                    raise UndecidableError(f"seed {seed} of {described(training)} is at {number}")
                column[seed] = number
        return table


def metric_of(training: TrainingResult, metric: str) -> list[float]:
    """A metric of each member at the end.

    Raises:
        UndecidableError: The training has no such metric.
    """
    if metric not in training.metrics:
        raise UndecidableError(f"the arm {training.arm} has no {metric}")
    return training.metrics[metric]


def values(wanted: Any) -> list[Any]:
    """The values that `where` allows for a setting."""
    return list(wanted) if isinstance(wanted, (list, tuple)) else [wanted]


def setting(training: TrainingResult, name: str) -> Any:
    """Value of a setting of a training."""
    default = TrainConfig.__dataclass_fields__[name].default
    return training.point.get(name, training.settings.get(name, default))


def point(where: Mapping[str, Any]) -> str:
    """A point of the grid in words."""
    return ", ".join(f"{name} = {value}" for name, value in where.items())


def described(training: TrainingResult | MissingTraining) -> str:
    """A training in words."""
    words = " at ".join(filter(None, (training.arm, point(training.point))))
    if training.part:
        words += f" ({training.part})"
    if isinstance(training, MissingTraining):
        words += f", {training.steps_done:,} of {training.steps:,} steps"
    return words


def common(sides: list[BySeed]) -> tuple[list[int], list[int]]:
    """Seeds that all sides have, and those that some lack."""
    shared = set.intersection(*map(set, sides))
    return sorted(shared), sorted(set.union(*map(set, sides)) - shared)
