"""Limits of a processor: ranges of its fields, its couplers, and of sums of couplers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qattn.hardware.embedding.embed import EmbeddedProblem
from qattn.hardware.embedding.packing import Packing
from qattn.hardware.embedding.working_graph import WorkingGraph, check_has

OPTIONAL_RANGES = ("extended_j_range", "per_qubit_coupling_range", "per_group_coupling_range")
"""Properties that limit biases, and that not every solver has."""

_WORDS = {"coupler": "a coupler", "per_qubit": "a qubit", "per_group": "a group of couplers"}

Range = tuple[float, float]
Floats = NDArray[np.float64]


class LogicalLimits(NamedTuple):
    """Largest magnitudes of logical biases, in D-Wave's units.

    Attributes:
        h: Largest |h| that every chain holds.
        J: Largest |J| that every pair of chains holds, each coupler considered on its own.
        J_always: Largest |J| up to which any problem fits, sums of couplers included, whatever
            its signs.
    """

    h: float
    J: float
    J_always: float


@dataclass(frozen=True, eq=False)
class DeviceRanges:
    r"""Ranges of a solver's biases, h and J in D-Wave's signs and units.

    .. math::
        h_q \in R_h,\quad J_{uv} \in R_J,\quad \sum_v J_{qv} \in R_{\text{qubit}},\quad
        \sum_{(u, v) \in \text{group}} J_{uv} \in R_{\text{group}}

    Zephyr couples each qubit in groups (``dwave.system.coupling_groups``); Pegasus has none.

    Args:
        graph: The solver's working graph.
        h_range: Smallest and largest linear bias.
        j_range: Smallest and largest quadratic bias.
        extended_j_range: The same where sums stay in range; None means that there is none.
        per_qubit: Smallest and largest sum of a qubit's couplers; None means no limit.
        per_group: Smallest and largest sum of a group of couplers; None means no limit.

    Raises:
        ValueError: A range does not run from a negative to a positive number.
    """

    graph: WorkingGraph
    h_range: Range
    j_range: Range
    extended_j_range: Range | None = None
    per_qubit: Range | None = None
    per_group: Range | None = None

    def __post_init__(self) -> None:
        for name in ("h_range", "j_range", "extended_j_range", "per_qubit", "per_group"):
            value = getattr(self, name)
            if value is not None and not value[0] < 0 < value[1]:
                raise ValueError(
                    f"Argument `{name}` must run from a negative to a positive number, "
                    f"but is {list(value)}."
                )

    @classmethod
    def from_properties(cls, properties: Mapping[str, Any], graph: WorkingGraph) -> "DeviceRanges":
        """Ranges stated in a solver's properties.

        Raises:
            ValueError: "h_range" or "j_range" is missing, or a range is not one.
        """
        check_has(properties, "h_range", "j_range")

        def given(name: str) -> Any:
            low, high = properties[name]
            return float(low), float(high)

        optional = (given(name) if properties.get(name) else None for name in OPTIONAL_RANGES)
        return cls(graph, given("h_range"), given("j_range"), *optional)

    @property
    def coupler_range(self) -> Range:
        """Range of one coupler: the extended one where the solver has it."""
        return self.extended_j_range or self.j_range

    def excess(self, problem: EmbeddedProblem) -> dict[str, float]:
        """Largest value of a problem over its limit, for each kind of limit; it fits if all ≤ 1.

        Returns:
            By name "h", "J", "per_qubit" and "per_group"; 0 where there is no limit.
        """
        excess = {
            "h": largest_ratio(problem.linear, self.h_range),
            "J": largest_ratio(problem.quadratic, self.coupler_range),
            "per_qubit": 0.0,
            "per_group": 0.0,
        }
        for name, totals, limit in self._totals(problem.quadratic):
            excess[name] = largest_ratio(totals, limit)
        return excess

    def max_logical(self, packing: Packing, chain_strength: float) -> LogicalLimits:
        """Largest logical biases that fit a packing.

        Biases may have either sign, as spin-reversal transforms turn one into the other; so the
        nearer end of each range counts.

        Args:
            packing: Slots of this solver's graph, all of them in use.
            chain_strength: Coupling within chains; their couplers get minus this bias.

        Raises:
            ValueError: The chains alone do not fit.
        """
        # What is programmed is chains + J · share, with J between its limits of either sign: the
        # part that is fixed, and what a logical coupling of 1 puts on each coupler.
        chains, share = np.zeros((2, len(self.graph.couplers)))
        chains[packing.chain_couplers] = -float(chain_strength)
        share[packing.logical_couplers.position] = packing.logical_couplers.share
        # No coupler is both in a chain and between two: a coupler on its own is all J's.
        J = _room(np.zeros(len(share)), share, self.coupler_range)
        always = J
        # The chains by themselves must fit; what they leave of each limit on sums is for J.
        fixed = [("coupler", chains, self.coupler_range), *self._totals(chains)]
        for name, totals, limit in fixed:
            if largest_ratio(totals, limit) > 1:
                raise ValueError(
                    f"Argument `chain_strength` must keep the chains of {_WORDS[name]} within "
                    f"{list(limit)}, but {chain_strength} adds up to {totals.min():g}."
                )
        for (_, totals, limit), (_, shares, _) in zip(fixed[1:], self._totals(share), strict=True):
            always = min(always, _room(totals, shares, limit))
        # A field is divided equally among the qubits of a chain: the shortest chain binds.
        h = _room(np.zeros(packing.num_slots), 1 / packing.chain_lengths.min(1), self.h_range)
        return LogicalLimits(h, J, always)

    def _totals(self, quadratic: Floats) -> list[tuple[str, Floats, Range]]:
        """Name, sums of couplers and limit of each limit on sums that the solver has."""
        totals: list[tuple[str, Floats, Range]] = []
        ends, groups = self.graph.coupler_ends, self.graph.coupling_groups
        if self.per_qubit is not None:
            sums = coupler_sums(ends, quadratic, len(self.graph.qubits))
            totals.append(("per_qubit", sums, self.per_qubit))
        if self.per_group is not None and groups is not None:
            sums = coupler_sums(groups, quadratic, int(groups.max()) + 1)
            totals.append(("per_group", sums, self.per_group))
        return totals


def largest_ratio(values: Floats, limit: Sequence[float]) -> float:
    """Largest value over the end of the range on its side of zero."""
    low, high = limit
    return float(max(values.max(initial=0.0) / high, values.min(initial=0.0) / low))


def _room(fixed: Floats, share: Floats, limit: Range | None) -> float:
    """Largest x for which fixed ± x · share stays within the limit everywhere."""
    if limit is None or not share.any():
        return float("inf")
    touched = share > 0
    fixed, share = fixed[touched], share[touched]
    return float((np.minimum(limit[1] - fixed, fixed - limit[0]) / share).min())


def coupler_sums(index: NDArray[np.integer[Any]], quadratic: Floats, size: int) -> Floats:
    """Sums of couplers, each counted at both of its entries of `index`, shape (E, 2)."""
    sums = sum(np.bincount(side, quadratic, size) for side in index.T)
    return np.asarray(sums, dtype=np.float64)  # without couplers bincount has integers
