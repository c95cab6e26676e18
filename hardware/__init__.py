"""D-Wave quantum computers: the backend "dwave", what it rests on, and an emulator to develop with.

From the outside in: :mod:`~qattn.hardware.dwave` and :mod:`~qattn.hardware.replay` are backends;
:mod:`~qattn.hardware.calls` plans, submits and collects their calls, so that a job is paid once and
never lost; :mod:`~qattn.hardware.embedding` puts thousands of small problems onto a processor;
:mod:`~qattn.hardware.service` is the way to D-Wave's solvers and what may be spent there;
:mod:`~qattn.hardware.calibrate` measures temperatures; :mod:`~qattn.hardware.doctor` checks a
set-up; :mod:`~qattn.hardware.emulator` is a local stand-in for the service.
"""

from typing import TYPE_CHECKING

from qattn._lazy import lazy

if TYPE_CHECKING:
    from qattn.hardware.calibrate import calibrate_device as calibrate_device
    from qattn.hardware.calibration_file import DeviceCalibration as DeviceCalibration
    from qattn.hardware.calibration_file import DevicePoint as DevicePoint
    from qattn.hardware.dwave import DWaveBackend as DWaveBackend
    from qattn.hardware.emulator import EmulatedQPU as EmulatedQPU
    from qattn.hardware.emulator import EmulatorSettings as EmulatorSettings
    from qattn.hardware.emulator import Fault as Fault
    from qattn.hardware.replay import ReplayBackend as ReplayBackend
    from qattn.hardware.settings import QPUSettings as QPUSettings

__getattr__, __all__ = lazy(__name__, __file__)
