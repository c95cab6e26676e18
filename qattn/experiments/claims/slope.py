"""Whether an arm's gain grows with the length."""

import math
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar

from qattn.experiments.claims.question import BETTER, Question, SeedEffects
from qattn.experiments.claims.selection import BySeed, Side, UndecidableError, common, metric_of
from qattn.experiments.results import Results, TrainingResult


@dataclass(frozen=True, kw_only=True)
class Slope(Question):
    r"""How the gain over another arm grows with the length: slope b of its least squares.

    .. math::
        g_i(T) \approx a_i + b_i \ln T

    Attributes:
        than: The other arm.
        metric: Metric that is compared.
        parts: The parts of the experiment that have the lengths, if there are several.
        sign: 1 if the claim is that the gain grows, -1 if it shrinks.
    """

    kind: ClassVar[str] = "slope"

    than: str
    metric: str
    parts: tuple[str, ...] = ()
    sign: int = 1

    @property
    def sides(self) -> list[Side]:
        """Both arms' trainings in all parts."""
        parts = self.parts or (self.part,)
        return [Side(part, arm, self.where) for part in parts for arm in (self.arm, self.than)]

    @property
    def over(self) -> str:
        """The length."""
        return "context"

    @property
    def unit(self) -> str:
        """The metric for each unit of ln T."""
        return f"{self.metric} per ln T"

    def effects(self, results: Results) -> SeedEffects:
        """Slope of each seed that has both arms at all lengths."""
        gains: list[tuple[int, BySeed, BySeed]] = []
        for own, other in zip(self.sides[::2], self.sides[1::2], strict=True):
            arm, than = (side.by_seed(results, self._read, self.over) for side in (own, other))
            if arm.keys() != than.keys():
                raise UndecidableError(
                    f"the arms {own.arm} and {other.arm} are not trained at the same lengths"
                )
            gains += [(T, arm[T], than[T]) for T in arm]
        lengths = [T for T, _, _ in gains]
        if len(set(lengths)) < len(lengths) or len(lengths) < 2:
            raise UndecidableError(f"a slope takes two or more different lengths, not {lengths}")
        seeds, dropped = common([side for _, *both in gains for side in both])
        # Weights of the least squares: Σ w = 0 and Σ w ln T = 1.
        logs = [math.log(T) for T in lengths]
        centred = [x - fmean(logs) for x in logs]
        weights = [x / math.fsum(c * c for c in centred) for x in centred]
        sign = self.sign * BETTER[self.metric]
        pairs = list(zip(weights, gains, strict=True))
        slopes = {s: sign * math.fsum(w * (a[s] - b[s]) for w, (_, a, b) in pairs) for s in seeds}
        return SeedEffects(slopes, dropped)

    def _read(self, training: TrainingResult) -> list[float]:
        return metric_of(training, self.metric)
