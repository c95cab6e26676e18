"""Ranges of h and J: the factor by which auto-scaling divides, and what is out of range.

Both follow the entry ``auto_scale`` of "QPU Solver Parameters"
(docs.dwavequantum.com/en/latest/quantum_research/solver_parameters.html).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

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
    ratios = [
        extreme / limit if extreme * limit > 0 else 0.0
        for values, (low, high), _ in _limits(problem, device)
        for extreme, limit in zip(_extremes(values), (low, high), strict=True)
    ]
    largest = float(max(ratios))
    return largest if largest > 0 else 1.0


def check_ranges(problem: PhysicalProblem, device: EmulatedDevice) -> None:
    """Reject a problem with a value out of range.

    Raises:
        RejectedJobError: There is one; the message names it and its range.
    """
    for values, (low, high), what in _limits(problem, device):
        for extreme in _extremes(values):
            if not low * (1 + ROUNDING) <= extreme <= high * (1 + ROUNDING):
                raise RejectedJobError(
                    f"{what} out of range: {extreme:g} not in [{low:g}, {high:g}]"
                )


def _limits(
    problem: PhysicalProblem, device: EmulatedDevice
) -> list[tuple[FloatArray, Sequence[float], str]]:
    properties: Mapping[str, Any] = device.properties
    totals, limit, what = _total_couplings(problem, device)
    return [
        (problem.h, properties["h_range"], "Linear bias (h)"),
        (problem.J, properties["extended_j_range"], "Coupling (J)"),
        (totals, limit, what),
    ]


def _total_couplings(
    problem: PhysicalProblem, device: EmulatedDevice
) -> tuple[FloatArray, Sequence[float], str]:
    qubits = len(device.graph.qubits)
    groups, slots = device.graph.coupling_groups, 2 * qubits
    limit, what = "per_group_coupling_range", "Total coupling of a group of qubits"
    if groups is None:
        groups, slots = device.graph.coupler_ends.astype(np.int64), qubits
        limit, what = "per_qubit_coupling_range", "Total coupling of a qubit"
    # A coupler counts at both of its ends, in one group of each (or for the whole qubit).
    used = groups[problem.couplers]
    totals = sum(np.bincount(side, problem.J, slots) for side in used.T)
    return np.asarray(totals, dtype=np.float64), device.properties[limit], what


def _extremes(values: FloatArray) -> tuple[float, float]:
    return (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
