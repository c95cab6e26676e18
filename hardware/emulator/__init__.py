"""An emulated D-Wave processor on the loopback interface, for development and tests.

It serves any Ocean client, not only qattn. ``server`` has the class that a user starts; it starts
``http``, which reads each request, makes faults happen, and hands the request to ``api``. That
answers it, and puts jobs into the queue of ``jobs``. A second thread takes them from there to
``physics.run_job``, which decodes a job (``protocol``), checks it (``rules``), draws its reads
(``physics``) and encodes the answer.
"""

from qattn.hardware.emulator.faults import Fault
from qattn.hardware.emulator.jobs import AccountEntry
from qattn.hardware.emulator.server import EmulatedQPU
from qattn.hardware.emulator.settings import EmulatorSettings

__all__ = ["AccountEntry", "EmulatedQPU", "EmulatorSettings", "Fault"]
