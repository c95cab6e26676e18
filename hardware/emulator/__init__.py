"""An emulated D-Wave processor on the loopback interface, for development and tests."""

from qattn.hardware.emulator.faults import Fault
from qattn.hardware.emulator.jobs import JobRecord
from qattn.hardware.emulator.server import EmulatedQPU
from qattn.hardware.emulator.settings import EmulatorSettings

__all__ = ["EmulatedQPU", "EmulatorSettings", "Fault", "JobRecord"]
