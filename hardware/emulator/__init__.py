"""An emulated D-Wave processor on the loopback interface, for development and tests.

It serves any Ocean client, not only qattn. :mod:`~qattn.hardware.emulator.server` has the class
that a user starts; it starts :mod:`~qattn.hardware.emulator.http`, which reads requests and makes
faults happen, and hands each to :mod:`~qattn.hardware.emulator.api`, which answers it and puts jobs
into the queue of :mod:`~qattn.hardware.emulator.jobs`. A second thread takes them from there to
:mod:`~qattn.hardware.emulator.physics.run_job`: decode, check rules, draw reads, encode.
"""

from qattn.hardware.emulator.faults import Fault
from qattn.hardware.emulator.server import EmulatedQPU
from qattn.hardware.emulator.settings import EmulatorSettings

__all__ = ["EmulatedQPU", "EmulatorSettings", "Fault"]
