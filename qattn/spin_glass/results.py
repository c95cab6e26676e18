"""What is known of each problem along a ladder of β: curves, overlaps and verdicts."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite, pi, sqrt
from typing import Any

from jaxtyping import Float
from torch import Tensor

from qattn.spin_glass.judged import Judged
from qattn.thermodynamics import QUANTITIES, Curves, OverlapDistribution


@dataclass(frozen=True, eq=False)
class Overlap:
    """P(q) of one problem at one β, from the sampler's weighted reads and from the reference.

    Attributes:
        q: The overlaps, descending.
        sampler: P(q) of the sampler.
        sampler_error: Its standard error.
        reference: P(q) of the reference.
        reference_error: Its standard error; 0 where it is exact.
    """

    q: Float[Tensor, " overlaps"]
    sampler: Float[Tensor, " overlaps"]
    sampler_error: Float[Tensor, " overlaps"]
    reference: Float[Tensor, " overlaps"]
    reference_error: Float[Tensor, " overlaps"]

    @classmethod
    def between(cls, sampler: OverlapDistribution, reference: OverlapDistribution) -> "Overlap":
        """Of the two distributions of one problem."""
        there = ~sampler.overlaps[0, 0].isnan()
        tables = (sampler.probabilities, sampler.errors, reference.probabilities, reference.errors)
        return cls(sampler.overlaps[0, 0, there], *(x[0, 0, there] for x in tables))

    @property
    def distance(self) -> float:
        """Total variation distance of the two."""
        return float((self.sampler - self.reference).abs().sum() / 2)

    @property
    def noise(self) -> float:
        """The distance that their errors alone make, on average."""
        errors = (self.sampler_error.square() + self.reference_error.square()).sqrt()
        return float(errors.sum() / 2 * sqrt(2 / pi))

    def to_dict(self) -> dict[str, Any]:
        """As lists, with both figures."""
        rows = {name: values.tolist() for name, values in vars(self).items()}
        return {"distance": self.distance, "noise": self.noise, **rows}


@dataclass(frozen=True, eq=False)
class Ladder:
    """One problem at every β.

    Attributes:
        num_spins: Number n of its spins.
        curves: All quantities by the sampler's weighted reads.
        reference: The same of the reference.
        kind: How the reference was found.
        in_equilibrium: Whether the reference's long runs are.
        judged: The sampler at each β.
        overlaps: P(q) by β.
    """

    num_spins: int
    curves: Curves
    reference: Curves
    kind: str
    in_equilibrium: bool
    judged: tuple[Judged, ...]
    overlaps: Mapping[float, Overlap]

    def of(self, name: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A quantity along β by the sampler and by the reference, each with its errors."""
        return (
            getattr(self.curves, name)[0, 0],
            self.curves.error(name)[0, 0],
            getattr(self.reference, name)[0, 0],
            self.reference.error(name)[0, 0],
        )

    def to_dict(self) -> dict[str, Any]:
        """As numbers and words; null where a number is not known."""
        return {
            "num_spins": self.num_spins,
            "reference": self.kind,
            "in_equilibrium": self.in_equilibrium,
            "judged": [
                {k: _number(v) if isinstance(v, float) else v for k, v in asdict(one).items()}
                for one in self.judged
            ],
            "quantities": {
                name: dict(
                    zip(
                        ("sampler", "sampler_error", "reference", "reference_error"),
                        ([_number(x) for x in values.tolist()] for values in self.of(name)),
                        strict=True,
                    )
                )
                for name in QUANTITIES
            },
            "overlaps": [{"beta": b, **one.to_dict()} for b, one in self.overlaps.items()],
        }


@dataclass(frozen=True, eq=False)
class Section:
    """A set of problems along a ladder.

    Attributes:
        name: Name of the set.
        sampler: What drew the reads, in words.
        betas: The ladder, ascending, in units of the problems' own β.
        ladders: Its problems.
    """

    name: str
    sampler: str
    betas: Float[Tensor, " betas"]
    ladders: tuple[Ladder, ...]

    def verdicts(self, b: int) -> Counter[str]:
        """How many problems have which verdict at a β of the ladder."""
        return Counter(ladder.judged[b].verdict for ladder in self.ladders)

    def to_dict(self) -> dict[str, Any]:
        """As numbers and words."""
        return {
            "name": self.name,
            "sampler": self.sampler,
            "betas": self.betas.tolist(),
            "problems": [ladder.to_dict() for ladder in self.ladders],
        }


def _number(x: float) -> float | None:
    """As JSON can hold it."""
    return x if isfinite(x) else None
