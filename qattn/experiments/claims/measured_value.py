"""Whether what is measured of trained models is above a bound, or larger than another arm's."""

from dataclasses import dataclass
from statistics import fmean
from typing import Any, ClassVar

from qattn.experiments.claims.question import Question, SeedEffects
from qattn.experiments.claims.selection import Side, UndecidableError, common
from qattn.experiments.results import Results, TrainingResult


@dataclass(frozen=True, kw_only=True)
class MeasuredValue(Question):
    """What is measured of the trained models is above a bound; or larger than another arm's.

    Attributes:
        measure: Name of the measure.
        value: Which of its tables, whose first index is the member; a member may be a number.
        at: Places in the table that are averaged, the first being 1: of couplings by distance, the
            distances. All if there are none.
        of: Class of the last index, by its name in the measure's ``classes``.
        than: Another arm that it is compared with.
        sign: 1 if the claim is that the value is above the bound (or larger), -1 if below.
        bound: What the value, or how much larger it is, is compared with.
        quantity: What the value is called in tables; "" for measure, table, places and class.
    """

    kind: ClassVar[str] = "measure"

    measure: str
    value: str
    at: tuple[int, ...] = ()
    of: str = ""
    than: str = ""
    sign: int = 1
    bound: float = 0.0
    quantity: str = ""

    @property
    def sides(self) -> list[Side]:
        """The arm's trainings, and those of another."""
        other = [Side(self.part, self.than, self.where)] if self.than else []
        return [self.own, *other]

    @property
    def unit(self) -> str:
        """What the value is called, with a minus where it is claimed to be small."""
        places = f" at {', '.join(map(str, self.at))}" if self.at else ""
        of = f" of {self.of}" if self.of else ""
        name = self.quantity or f"{self.measure}: {self.value}{places}{of}"
        return f"−{name}" if self.sign < 0 else name

    @property
    def null(self) -> float:
        """The bound, in the direction of the claim."""
        return self.sign * self.bound

    def effects(self, results: Results) -> SeedEffects:
        """Mean value of each seed, or how much larger it is than the other arm's."""
        found = [side.by_seed(results, self._read)[None] for side in self.sides]
        seeds, dropped = common(found)
        arm, than = found[0], found[1] if self.than else dict.fromkeys(seeds, 0.0)
        return SeedEffects({s: self.sign * (arm[s] - than[s]) for s in seeds}, dropped)

    def _read(self, training: TrainingResult) -> list[float]:
        """Mean over the places for each member; places without a value (None) do not count."""
        table = training.measures.get(self.measure, {})
        if self.value not in table:
            raise UndecidableError(f"the arm {training.arm} has no {self.value} of {self.measure}")
        if len(table[self.value]) != len(training.seeds):
            raise UndecidableError(f"{self.value} of {self.measure} has no number for each seed")
        if self.of and self.of not in table.get("classes", ()):
            raise UndecidableError(f"{self.measure} has no class {self.of!r}")
        found = []
        for member in table[self.value]:
            places = len(member) if isinstance(member, list) else 0
            if max(self.at, default=0) > places:
                raise UndecidableError(
                    f"the arm {training.arm} has {places} places of {self.value}"
                )
            rows = [member[place - 1] for place in self.at] if self.at else member
            if self.of:
                rows = [row and row[table["classes"].index(self.of)] for row in rows]
            numbers = list(_numbers(rows))
            if not numbers:
                raise UndecidableError(f"the arm {training.arm} has no value of {self.unit}")
            found.append(fmean(numbers))
        return found


def _numbers(nested: Any) -> list[float]:
    """All numbers in nested lists."""
    if isinstance(nested, list):
        return [number for inner in nested for number in _numbers(inner)]
    return [] if nested is None else [float(nested)]
