"""D-Wave quantum computers: the backend "dwave", what it rests on, and an emulator to develop with.

From the outside in: :mod:`~qattn.hardware.dwave` and :mod:`~qattn.hardware.replay` are backends;
:mod:`~qattn.hardware.calls` plans, submits and collects their calls, so that a job is paid once and
never lost; :mod:`~qattn.hardware.embedding` puts thousands of small problems onto a processor;
:mod:`~qattn.hardware.service` is the way to D-Wave's solvers and what may be spent there;
:mod:`~qattn.hardware.calibrate` measures temperatures; :mod:`~qattn.hardware.doctor` checks a
set-up; :mod:`~qattn.hardware.emulator` is a local stand-in for the service.
"""

import importlib
from typing import Any

_API = {
    "DeviceCalibration": "calibration_file",
    "DevicePoint": "calibration_file",
    "QPUSettings": "settings",
    "calibrate_device": "calibrate",
}
"""The public names, and the modules that are imported at their first use."""

__all__ = list(_API)


def __getattr__(name: str) -> Any:
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_API[name]}"), name)
