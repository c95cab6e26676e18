"""D-Wave quantum computers: the backend "dwave", what it rests on, and an emulator to develop with.

From the outside in: :mod:`~qattn.hardware.dwave` and :mod:`~qattn.hardware.replay` are backends;
:mod:`~qattn.hardware.session` plans, submits and collects their calls;
:mod:`~qattn.hardware.jobs`, :mod:`~qattn.hardware.journal` and :mod:`~qattn.hardware.budget` see to
it that a job is paid once and never lost; :mod:`~qattn.hardware.packing` and
:mod:`~qattn.hardware.embedding` put thousands of small problems onto a processor;
:mod:`~qattn.hardware.calibrate` measures its temperatures; :mod:`~qattn.hardware.emulator` is a
local stand-in for the service.
"""
