"""What is asked of results: a number for each seed that is positive if the claim is right."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from qattn.experiments.claims.selection import BySeed, Side
from qattn.experiments.results import Results
from qattn.experiments.statistics import RELEVANT

BETTER = {"perplexity": -1, "validation_loss": -1, "gradient_error": -1, "accuracy": 1}
"""Metrics: whether more is better (1) or less (-1)."""


@dataclass(frozen=True)
class SeedEffects:
    """Effects by seed, the seeds that only one side has, and what else is to be said of them."""

    by_seed: BySeed
    dropped: list[int]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Question(ABC):
    """What all kinds have.

    Attributes:
        arm: The arm that the claim is about.
        part: Its part of the experiment.
        where: Values of the grid.
    """

    kind: ClassVar[str]

    arm: str
    part: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)

    @property
    def own(self) -> Side:
        """The trainings that the claim is about."""
        return Side(self.part, self.arm, self.where)

    @property
    def sides(self) -> list[Side]:
        """All trainings that it needs."""
        return [self.own]

    @property
    def over(self) -> str:
        """The setting of which it needs several values; "" if it needs one training a side."""
        return ""

    @property
    def unit(self) -> str:
        """What the effects are numbers of."""
        raise NotImplementedError

    @property
    def null(self) -> float:
        """What the effect must be above."""
        return 0.0

    @property
    def relevant(self) -> float:
        """Smallest relevant effect in standard deviations over seeds."""
        return RELEVANT

    @abstractmethod
    def effects(self, results: Results) -> SeedEffects:
        """The effect of each seed.

        Raises:
            UndecidableError: The results lack something for it.
        """
