"""Whether an experiment has the trainings that its claims are about."""

from collections.abc import Sequence

from qattn.experiments.claims.claim import Claim, one_of
from qattn.experiments.claims.comparison import Comparison
from qattn.experiments.claims.measured_value import MeasuredValue
from qattn.experiments.claims.selection import Side, values
from qattn.experiments.claims.slope import Slope
from qattn.experiments.claims.sooner import Sooner
from qattn.experiments.experiment import Part
from qattn.training.config import TrainConfig
from qattn.training.tasks import Brackets, Shakespeare, Text

METRIC = {"brackets": Brackets.metric, "shakespeare": Shakespeare.metric, "text": Text.metric}
"""The metric of each task of qattn, beside the loss."""


def check_claim(claim: Claim, parts: Sequence[Part]) -> None:
    """Check that an experiment of these parts has the trainings that a claim needs.

    Raises:
        ValueError: A part, an arm, a setting of the grid, a value of it, the metric or the measure
            is not there; or `where` leaves several trainings open.
    """
    name, test = f"Claim {claim.id!r}", claim.test
    known = {part.name: part for part in parts}
    for side in test.sides:
        one_of(name, "test.part", side.part, known)
        part = known[side.part]
        one_of(name, "test.arm", side.arm, part.arms)
        for setting, wanted in side.where.items():
            one_of(name, "test.where", setting, part.grid)
            for value in values(wanted):
                one_of(name, f"test.where.{setting}", value, part.grid[setting])
        _check_one_point(name, side, part, test.over)
        if isinstance(test, (Comparison, Slope)):
            task = {**part.settings, **side.where, **part.arms[side.arm]}.get(
                "task", TrainConfig.task
            )
            metrics = ["validation_loss", METRIC.get(task, test.metric)]
            metrics += [] if isinstance(test, Sooner) else ["gradient_error"]
            one_of(name, "test.metric", test.metric, metrics)
        if isinstance(test, MeasuredValue):
            one_of(name, "test.measure", test.measure, part.measures)


def _check_one_point(name: str, side: Side, part: Part, over: str) -> None:
    """One training a side, or one for each value of `over`."""
    for setting, grid in part.grid.items():
        chosen = values(side.where.get(setting, grid))
        if setting != over and len(chosen) > 1:
            raise ValueError(
                f"{name}: key `test.where` must choose one value of `{setting}` for the arm "
                f"{side.arm!r}, but leaves {', '.join(map(str, chosen))}."
            )
