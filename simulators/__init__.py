"""Local samplers: simulated annealing, and diabatic quantum annealing with its schedules."""

import importlib
from typing import Any

_API = {
    "AnnealSchedule": "schedules",
    "SimulatorCalibration": "calibration_file",
    "SimulatorPoint": "calibration_file",
    "calibrate_simulator": "calibrate",
    "effective_betas": "effective_beta",
    "get_schedule": "schedules",
    "plot_schedule": "effective_beta",
    "uniform_divergence": "calibrate",
}
"""The public names, and the modules that are imported at their first use."""

__all__ = list(_API)


def __getattr__(name: str) -> Any:
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_API[name]}"), name)
