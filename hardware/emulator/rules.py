"""The rules that a processor has for the parameters of a job.

Sources, with the entry named at each rule:

- [parameters] "QPU Solver Parameters",
  docs.dwavequantum.com/en/latest/quantum_research/solver_parameters.html
- [properties] "General QPU Solver Properties",
  docs.dwavequantum.com/en/latest/quantum_research/solver_properties_all.html
- [timing] "Operation and Timing", docs.dwavesys.com/docs/latest/c_qpu_timing.html
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qattn.hardware.emulator.physics.device import EmulatedDevice
from qattn.hardware.emulator.physics.physical_problem import (
    FloatArray,
    PhysicalProblem,
    RejectedJobError,
)
from qattn.hardware.emulator.physics.scaling import check_ranges, scale_factor
from qattn.hardware.emulator.physics.timing import Duration, readout_time

NOT_EMULATED = {
    "anneal_offsets": "anneal offsets",
    "h_gain_schedule": "a time-dependent gain of h",
    "initial_state": "reverse anneals",
}
"""Parameters that the real processors take and the emulator's physics has no model for."""


@dataclass(frozen=True, eq=False)
class Plan:
    """A job that passed all rules.

    Args:
        problem: What is programmed, after auto-scaling.
        flux_biases: Flux bias of each active qubit in Φ0, shape (n,).
        duration: The parameters that decide how long it runs.
        histogram: Whether equal reads are merged.
        max_answers: Largest number of answers to return; None means all.
    """

    problem: PhysicalProblem
    flux_biases: FloatArray
    duration: Duration
    histogram: bool
    max_answers: int | None


def plan_job(problem: PhysicalProblem, params: Mapping[str, Any], device: EmulatedDevice) -> Plan:
    """Check an Ising problem and its parameters, and scale it.

    Raises:
        RejectedJobError: A rule is broken.
    """
    params = {key: value for key, value in params.items() if value is not None}
    _check_names(params, device)
    # [parameters] answer_mode: histogram by default.
    mode = params.get("answer_mode", "histogram")
    if mode not in ("histogram", "raw"):
        raise RejectedJobError(f"Invalid answer_mode: {mode!r}; must be 'histogram' or 'raw'")
    # [parameters] flux_biases, auto_scale: they exclude each other.
    biased = "flux_biases" in params
    if biased and params.get("auto_scale"):
        raise RejectedJobError("flux_biases cannot be used with auto_scale")
    # [parameters] fast_anneal, h: h must be zero, and so must the diagonal of a QUBO.
    if params.get("fast_anneal") and problem.h.any():
        raise RejectedJobError("Linear biases (h) must be zero when fast_anneal is used")
    # [parameters] auto_scale: on by default; without it every value must lie in its range.
    if _flag(params, "auto_scale", not biased):
        factor = scale_factor(problem, device)
        problem = replace(problem, h=problem.h / factor, J=problem.J / factor)
    check_ranges(problem, device)
    max_answers = params.get("max_answers")
    return Plan(
        problem,
        _flux_biases(params, problem, device),
        _duration(params, problem, device),
        mode == "histogram",
        None if max_answers is None else _integer(params, "max_answers", 1, (1, 1 << 31)),
    )


def _check_names(params: Mapping[str, Any], device: EmulatedDevice) -> None:
    for key, value in params.items():
        # [properties] parameters: the names that a solver takes.
        if key not in device.properties["parameters"]:
            raise RejectedJobError(f"Unknown parameter: {key}")
        if key in NOT_EMULATED and np.any(np.asarray(value, dtype=object) != 0):
            # [parameters] h_gain_schedule, initial_state: not with the fast-anneal protocol.
            if params.get("fast_anneal") and key in ("h_gain_schedule", "initial_state"):
                raise RejectedJobError(f"{key} cannot be used with fast_anneal")
            raise RejectedJobError(f"This emulated QPU has no model of {NOT_EMULATED[key]} ({key})")


def _flux_biases(
    params: Mapping[str, Any], problem: PhysicalProblem, device: EmulatedDevice
) -> FloatArray:
    """Flux biases of the active qubits; [parameters] flux_biases: a value for every qubit."""
    flux_biases = params.get("flux_biases")
    if flux_biases is None:
        return np.zeros(problem.num_qubits)
    sites = device.graph.num_sites
    try:
        values = np.asarray(flux_biases, dtype=np.float64)
    except (TypeError, ValueError):
        raise RejectedJobError("flux_biases must be a list of numbers") from None
    if values.shape != (sites,):
        raise RejectedJobError(f"flux_biases must have {sites} values, but has {values.size}")
    if not np.isfinite(values).all():
        raise RejectedJobError("flux_biases must be finite")
    return values[device.graph.qubits[problem.qubits]]


def _duration(
    params: Mapping[str, Any], problem: PhysicalProblem, device: EmulatedDevice
) -> Duration:
    """The times of a job, each in its range ([properties] NAME_range) and their sum too.

    [timing] QMI Runtime Limit counts annealing, readout thermalization and programming
    thermalization; the predicted readout time is added to them here.
    """
    properties = device.properties
    duration = Duration(
        num_reads=_integer(params, "num_reads", 1, properties["num_reads_range"]),
        annealing_time=_annealing_time(params, properties),
        programming_thermalization=_number(params, "programming_thermalization", properties),
        readout_thermalization=_number(params, "readout_thermalization", properties),
        reduce_intersample_correlation=_flag(params, "reduce_intersample_correlation", False),
    )
    readout = readout_time(properties["problem_timing_data"], problem.num_qubits)
    per_read = duration.annealing_time + duration.readout_thermalization + readout
    total = per_read * duration.num_reads + duration.programming_thermalization
    limit = properties["problem_run_duration_range"][1]
    if total > limit:
        raise RejectedJobError(
            f"Upper limit on user-specified timing related parameters exceeded: "
            f"{total:.0f} > {limit:.0f}"
        )
    return duration


def _annealing_time(params: Mapping[str, Any], properties: Mapping[str, Any]) -> float:
    # [parameters] fast_anneal, annealing_time: each protocol has its range, the default time is
    # the same.
    fast = _flag(params, "fast_anneal", False)
    key = "fast_anneal_time_range" if fast else "annealing_time_range"
    low, high = properties[key]
    schedule = params.get("anneal_schedule")
    if schedule is None:
        time = _real(params.get("annealing_time", properties["default_annealing_time"]))
        if time is None:
            raise RejectedJobError(f"Invalid annealing_time: {params['annealing_time']!r}")
    elif "annealing_time" in params:
        raise RejectedJobError("anneal_schedule and annealing_time are mutually exclusive")
    else:
        # [parameters] anneal_schedule: only two points with the fast-anneal protocol.
        time = _last_time(schedule, 2 if fast else properties["max_anneal_schedule_points"])
    if not low <= time <= high:
        raise RejectedJobError(
            f"Annealing time out of range: {time:g} not in [{low:g}, {high:g}] ({key})"
        )
    return time


def _last_time(schedule: Any, max_points: int) -> float:
    """The end of a forward anneal; its points follow [parameters] anneal_schedule."""
    try:
        points = np.asarray(schedule, dtype=np.float64)
        t, s = points.T
    except (TypeError, ValueError):
        raise RejectedJobError("anneal_schedule must be a list of pairs (t, s)") from None
    if not 2 <= len(points) <= max_points:
        raise RejectedJobError(
            f"anneal_schedule must have 2 to {max_points} points, but has {len(points)}"
        )
    if s[0] == 1:
        raise RejectedJobError(
            "This emulated QPU has no model of reverse anneals (anneal_schedule)"
        )
    if (t[0], s[0], s[-1]) != (0, 0, 1) or (np.diff(t) <= 0).any() or (np.diff(s) < 0).any():
        raise RejectedJobError("anneal_schedule must rise from (0, 0) to s = 1 at increasing times")
    return float(t[-1])


def _real(value: Any) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and np.isfinite(value) else None


def _number(params: Mapping[str, Any], key: str, properties: Mapping[str, Any]) -> float:
    low, high = properties[f"{key}_range"]
    value = _real(params.get(key, properties[f"default_{key}"]))
    if value is None or not low <= value <= high:
        raise RejectedJobError(f"{key} out of range: {params[key]!r} not in [{low:g}, {high:g}]")
    return value


def _integer(params: Mapping[str, Any], key: str, default: int, limits: Any) -> int:
    value = params.get(key, default)
    low, high = limits
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise RejectedJobError(f"{key} out of range: {value!r} not in [{low}, {high}]")
    return value


def _flag(params: Mapping[str, Any], key: str, default: bool) -> bool:
    value = params.get(key, default)
    if not isinstance(value, bool):
        raise RejectedJobError(f"{key} must be a boolean, but is {value!r}")
    return value
