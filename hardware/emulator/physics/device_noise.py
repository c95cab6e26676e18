r"""The device noise model: what keeps a processor from sampling just what was programmed.

Flux biases act as fields of :data:`~qattn.hardware.emulator.physics.device.H_PER_PHI0`, each qubit
has a field of its own, and one more in a strong chain, control errors are new in every job, both
inverse temperatures drift with the number of jobs, and a qubit is misread at random. Fields and
couplings are in D-Wave's signs.
"""

import numpy as np
from numpy.typing import NDArray

from qattn.hardware.emulator.physics.device import EmulatedDevice
from qattn.hardware.emulator.physics.physical_problem import FloatArray, PhysicalProblem
from qattn.hardware.emulator.settings import EmulatorSettings

JOBS_OF_DRIFT = 1000
"""Number of jobs over which the setting `drift` is reached."""


def perturbed(
    problem: PhysicalProblem,
    flux_biases: FloatArray,
    device: EmulatedDevice,
    settings: EmulatorSettings,
    rng: np.random.Generator,
) -> PhysicalProblem:
    """The problem with flux biases and offsets as fields, and with this job's control errors.

    Args:
        problem: What is programmed.
        flux_biases: Flux bias of each active qubit in Φ0, shape (n,).
        device: The processor.
        settings: The emulator's settings.
        rng: Source of the control errors.
    """
    h = problem.h + device.properties["emulated_h_per_phi0"] * flux_biases
    labels = device.graph.qubits[problem.qubits]
    if settings.flux_offset > 0:
        h = h + settings.flux_offset * _of_each_qubit(device, settings, 1)[labels]
    if settings.offset_of_chains > 0:
        h = h + chain_offsets(problem, device, settings)
    if settings.h_noise > 0:
        h = h + rng.normal(0, settings.h_noise, len(h))
    J = problem.J
    if settings.J_noise > 0:
        # A coupler that is not used is off: it has no error either.
        J = np.where(J != 0, J + rng.normal(0, settings.J_noise, len(J)), 0.0)
    return PhysicalProblem(problem.qubits, h, problem.couplers, problem.ends, J)


def inverse_temperatures(settings: EmulatorSettings, index: int) -> tuple[float, float]:
    """(β_h, β_J) after `index` jobs."""
    drift = 1 + settings.drift * index / JOBS_OF_DRIFT
    return settings.beta_h * drift, settings.beta_J * drift


def misread(
    spins: NDArray[np.int8], probability: float, rng: np.random.Generator
) -> NDArray[np.int8]:
    """The reads with each spin flipped with this probability, independently."""
    if probability == 0:
        return spins
    wrong = rng.random(spins.shape, dtype=np.float32) < probability
    return np.where(wrong, -spins, spins)


def chain_offsets(
    problem: PhysicalProblem, device: EmulatedDevice, settings: EmulatorSettings
) -> FloatArray:
    r"""Fields that strong negative couplings cause, in units of h, shape (n,).

    D-Wave calibrates for J within ``j_range``; the chains that ``extended_j_range`` allows have an
    offset of their own, which flux biases may cancel ("General QPU Solver Properties",
    ``extended_j_range``, and "Error Sources for Problem Representation", "Calibration
    Refinement"). With J_q the strongest negative coupling of qubit q,

    .. math:: \delta h_q = \text{chain\_offset} \cdot \xi_q \cdot \max(0, -J_q - 1)

    where ξ_q, standard normal, is the qubit's own for good. That it grows linearly is an
    assumption.
    """
    # The strongest negative coupling of each qubit, as a positive number.
    strongest = np.zeros(problem.num_qubits)
    for end in problem.ends.T:
        np.maximum.at(strongest, end, -problem.J)
    excess = np.maximum(0.0, strongest + device.properties["j_range"][0])
    own = _of_each_qubit(device, settings, 4)[device.graph.qubits[problem.qubits]]
    offsets: FloatArray = settings.offset_of_chains * own * excess
    return offsets


def _of_each_qubit(device: EmulatedDevice, settings: EmulatorSettings, stream: int) -> FloatArray:
    """A standard normal number for each qubit by its label, the same for good."""
    return np.random.default_rng([settings.seed, stream]).normal(0, 1, device.graph.num_sites)
