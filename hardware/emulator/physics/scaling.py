"""Ranges of h and J: the factor by which auto-scaling divides, and what is out of range.

Both follow the entry ``auto_scale`` of "QPU Solver Parameters"
(docs.dwavequantum.com/en/latest/quantum_research/solver_parameters.html).
"""

from collections.abc import Sequence

from qattn.hardware.embedding.limits import coupler_sums, largest_ratio
from qattn.hardware.emulator.physics.device import EmulatedDevice
from qattn.hardware.emulator.physics.physical_problem import (
    FloatArray,
    PhysicalProblem,
    RejectedJobError,
)

ROUNDING = 1e-9
"""Relative excess over a range that counts as rounding."""


def scale_factor(problem: PhysicalProblem, device: EmulatedDevice) -> float:
    """The factor by which auto-scaling divides h and J, so that their ranges are used in full.

    The largest ratio of a value to its range, of h, J (extended) and the total coupling of a qubit
    or group; 1 where all are zero.
    """
    ratios = (largest_ratio(values, limit) for values, limit, _ in _limits(problem, device))
    return max(ratios) or 1.0


def check_ranges(problem: PhysicalProblem, device: EmulatedDevice) -> None:
    """Reject a problem with a value out of range.

    Raises:
        RejectedJobError: There is one; the message names it and its range.
    """
    for values, (low, high), what in _limits(problem, device):
        for extreme in (values.min(initial=0.0), values.max(initial=0.0)):
            if not low * (1 + ROUNDING) <= extreme <= high * (1 + ROUNDING):
                raise RejectedJobError(
                    f"{what} out of range: {extreme:g} not in [{low:g}, {high:g}]"
                )


def _limits(
    problem: PhysicalProblem, device: EmulatedDevice
) -> list[tuple[FloatArray, Sequence[float], str]]:
    """Values that have a range, their range, and what they are."""
    properties, graph = device.properties, device.graph
    limit, of = "per_group_coupling_range", "a group of qubits"
    groups = graph.coupling_groups
    if groups is None:
        limit, of, groups = "per_qubit_coupling_range", "a qubit", graph.coupler_ends.astype(int)
    # A coupler counts at both of its ends, in one group of each (or for the whole qubit).
    totals = coupler_sums(groups[problem.couplers], problem.J, 2 * len(graph.qubits))
    return [
        (problem.h, properties["h_range"], "Linear bias (h)"),
        (problem.J, properties["extended_j_range"], "Coupling (J)"),
        (totals, properties[limit], f"Total coupling of {of}"),
    ]
