r"""The ghost of a device: from what was programmed to what is read.

Control noise and flux offsets change the program, a flux bias acts as a field of
:data:`~qattn.hardware.emulator.physics.device_noise.H_PER_PHI0`, the changed program has a
Boltzmann distribution P ∝ exp(-β_h Σ h s - β_J Σ J s s) over the physical qubits (or that of a
simulated anneal), and reading a qubit fails at random.
"""

import numpy as np
from numpy.typing import NDArray

from qattn.hardware.emulator.physics.anneal import anneal_reads
from qattn.hardware.emulator.physics.boltzmann import boltzmann_reads
from qattn.hardware.emulator.physics.device_noise import Device
from qattn.hardware.emulator.physics.physical_problem import FloatArray, Program
from qattn.hardware.emulator.rules import Plan
from qattn.hardware.emulator.settings import EmulatorSettings

JOBS_OF_DRIFT = 1000
"""Jobs over which the setting `drift` counts."""


def draw_reads(
    plan: Plan, device: Device, settings: EmulatorSettings, index: int, rng: np.random.Generator
) -> NDArray[np.int8]:
    """Reads of a job over its active qubits, shape (num_reads, n).

    Args:
        plan: The job.
        device: The processor.
        settings: Its ghost.
        index: How many jobs ran before.
        rng: Source of all randomness.
    """
    program = as_realised(plan, device, settings, rng)
    reads = plan.duration.num_reads
    if settings.schedule is not None:
        nanoseconds = 1000 * plan.duration.annealing_time
        spins = anneal_reads(program, settings, nanoseconds, reads, rng)
    else:
        drift = 1 + settings.drift * index / JOBS_OF_DRIFT
        used = program.J != 0
        a = -settings.beta_h * drift * program.h
        K = -settings.beta_J * drift * program.J[used]
        spins = boltzmann_reads(a, program.ends[used], K, reads, rng)
    if settings.readout_flip > 0:
        wrong = rng.random(spins.shape, dtype=np.float32) < settings.readout_flip
        spins = np.where(wrong, -spins, spins)
    return spins


def as_realised(
    plan: Plan, device: Device, settings: EmulatorSettings, rng: np.random.Generator
) -> Program:
    """The program with flux biases and offsets as fields, and with this job's control noise."""
    program = plan.program
    h = program.h + device.properties["emulated_h_per_phi0"] * plan.flux_biases
    if settings.flux_offset > 0:
        h = h + flux_offsets(device, settings)[device.graph.qubits[program.qubits]]
    if settings.h_noise > 0:
        h = h + rng.normal(0, settings.h_noise, len(h))
    J = program.J
    if settings.J_noise > 0:
        J = np.where(J != 0, J + rng.normal(0, settings.J_noise, len(J)), 0.0)
    return Program(program.qubits, h, program.couplers, program.ends, J)


def flux_offsets(device: Device, settings: EmulatorSettings) -> FloatArray:
    """The field that each qubit has for good, by its label."""
    rng = np.random.default_rng([settings.seed, 1])
    return rng.normal(0, settings.flux_offset, device.graph.num_sites)
