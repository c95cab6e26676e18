"""What a report holds of each system: curves as means over queries, critical β, regimes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qattn.thermo_report.quantities import ISING, NOT_OF_PROBLEMS, NOT_OF_RUNS, SOFTMAX, Quantity
from qattn.thermodynamics import CriticalBeta

FloatArray = NDArray[np.float64]


def finite(value: float | int | bool) -> float | int | bool | None:
    """A number as JSON can hold it: None if it is not finite."""
    return value if np.isfinite(value) else None


@dataclass(frozen=True, eq=False)
class Average:
    """A quantity of several queries, along β or a distance.

    Attributes:
        mean: Mean over the queries.
        low: Lower quartile over them.
        high: Upper quartile.
        error: Standard error of the mean that comes from reads; 0 where values are exact.
    """

    mean: FloatArray
    low: FloatArray
    high: FloatArray
    error: FloatArray

    def to_dict(self) -> dict[str, list[float | None]]:
        """As lists, None where a value is not defined."""
        return {name: [finite(x) for x in values.tolist()] for name, values in vars(self).items()}


@dataclass(frozen=True, eq=False)
class System:
    """A set of problems, a head of a trained run, or all heads of a layer together.

    Attributes:
        name: What tables call it: of a head its layer and its number, 0.2.
        label: What the legend of its panel calls it; "" for its name.
        kind: "ising", or "softmax" where the states are positions.
        num_queries: Number of queries that the means are over.
        sizes: Smallest and largest number of spins, or of positions, of a query.
        method: How the curves were computed, in words.
        betas: In units of the system's own β, ascending; 1 is among them.
        curves: By quantity.
        critical: The peaks that were looked for, by quantity.
        correlations: Mean of ⟨s_j s_k⟩ - ⟨s_j⟩⟨s_k⟩ at the working point by distance |j - k| from
            1 on; None for softmax.
        attended: Median of the least number of positions that hold 0.9 of a query's weight; None
            where there is no attention.
        regimes: Share of the queries in each regime.
        at_work: F, U, S and C at the working point: means over queries.
    """

    name: str
    kind: str
    num_queries: int
    sizes: tuple[int, int]
    method: str
    betas: FloatArray
    curves: Mapping[str, Average]
    critical: Mapping[str, CriticalBeta]
    at_work: Mapping[str, float]
    correlations: Average | None = None
    attended: float | None = None
    regimes: Mapping[str, float] = field(default_factory=dict)
    label: str = ""

    @property
    def quantities(self) -> dict[str, Quantity]:
        """What is drawn of a system of this kind."""
        drawn = ISING if self.kind == "ising" else SOFTMAX
        return {name: quantity for name, quantity in drawn.items() if name in self.curves}

    def to_dict(self) -> dict[str, Any]:
        """As numbers and words."""
        return {
            "name": self.name,
            "kind": self.kind,
            "num_queries": self.num_queries,
            "sizes": list(self.sizes),
            "method": self.method,
            "betas": self.betas.tolist(),
            "at_working_point": {name: finite(value) for name, value in self.at_work.items()},
            "critical": {
                name: {key: finite(value) for key, value in vars(critical).items()}
                for name, critical in self.critical.items()
            },
            "curves": {name: average.to_dict() for name, average in self.curves.items()},
            "correlations": None if self.correlations is None else self.correlations.to_dict(),
            "attended": self.attended,
            "regimes": dict(self.regimes),
        }


@dataclass(frozen=True, eq=False)
class Section:
    """Systems that are drawn together: all sets of problems, or the layers of a run.

    Attributes:
        name: Heading.
        rows: The sets of problems in one row; or the heads of each layer, a row for each.
        together: The heads of each layer as one system; empty for problems.
        uncoupled: Of each layer with couplings, all its queries without them; or empty.
    """

    name: str
    rows: list[list[System]]
    together: list[System] = field(default_factory=list)
    uncoupled: list[System] = field(default_factory=list)

    @property
    def systems(self) -> list[System]:
        """All systems but the layers."""
        return [system for row in self.rows for system in row]

    @property
    def drawn(self) -> list[str]:
        """The quantities that pictures and tables show."""
        left_out = NOT_OF_RUNS if self.together else NOT_OF_PROBLEMS
        return [name for name in self.systems[0].quantities if name not in left_out]

    def to_dict(self) -> dict[str, Any]:
        """As numbers and words."""
        return {
            "name": self.name,
            "rows": [[system.to_dict() for system in row] for row in self.rows],
            "together": [system.to_dict() for system in self.together],
            "uncoupled": [system.to_dict() for system in self.uncoupled],
        }
