"""Running a job: from its request to its answer."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qattn.hardware.emulator.physics.anneal import anneal_reads
from qattn.hardware.emulator.physics.boltzmann import boltzmann_reads
from qattn.hardware.emulator.physics.device import EmulatedDevice
from qattn.hardware.emulator.physics.device_noise import inverse_temperatures, misread, perturbed
from qattn.hardware.emulator.physics.timing import job_timing
from qattn.hardware.emulator.protocol import decode_problem, encode_answer, histogram
from qattn.hardware.emulator.rules import Plan, plan_job
from qattn.hardware.emulator.settings import EmulatorSettings


def run_job(
    request: Any, index: int, device: EmulatedDevice, settings: EmulatorSettings
) -> tuple[str, int, float]:
    """The answer of a job as JSON, its number of active qubits and its access time in µs.

    Args:
        request: The job as it was submitted.
        index: Number of jobs that were accepted before it; with the seed, it fixes all that is
            drawn for this job.
        device: The processor.
        settings: The emulator's settings.

    Raises:
        RejectedJobError: The processor does not run it.
    """
    submitted = decode_problem(request["data"], device.graph)
    qubo = request.get("type") == "qubo"
    ising = submitted.qubo_as_ising() if qubo else submitted
    plan = plan_job(ising, request.get("params") or {}, device)
    rng = np.random.default_rng([settings.seed, 2, index])
    data = device.properties["problem_timing_data"]
    timing = job_timing(data, ising.num_qubits, plan.duration, settings.timing_spread, rng)
    spins = _draw_reads(plan, device, settings, index, rng)
    # Energies are those of the submitted problem, whatever scaling and noise made of it.
    energies = submitted.energies((spins + 1) // 2 if qubo else spins)
    occurrences = np.ones(len(spins), dtype=np.int64)
    if plan.histogram:
        spins, energies, occurrences = histogram(spins, energies)
    kept = slice(plan.max_answers)
    labels = device.graph.qubits[ising.qubits]
    answer = encode_answer(
        spins[kept], energies[kept], occurrences[kept], labels, device.graph.num_sites, timing
    )
    return json.dumps(answer), ising.num_qubits, timing["qpu_access_time"]


def _draw_reads(
    plan: Plan,
    device: EmulatedDevice,
    settings: EmulatorSettings,
    index: int,
    rng: np.random.Generator,
) -> NDArray[np.int8]:
    """Reads of a job over its active qubits, shape (num_reads, n)."""
    problem = perturbed(plan.problem, plan.flux_biases, device, settings, rng)
    num_reads = plan.duration.num_reads
    if settings.schedule is not None:
        nanoseconds = 1000 * plan.duration.annealing_time
        spins = anneal_reads(problem, settings, nanoseconds, num_reads, rng)
    else:
        # From D-Wave's signs, E = Σ h s + Σ J s s, to those of the exponent, -β_h h and -β_J J.
        beta_h, beta_J = inverse_temperatures(settings, index)
        used = problem.J != 0
        a, K = -beta_h * problem.h, -beta_J * problem.J[used]
        spins = boltzmann_reads(a, problem.ends[used], K, num_reads, rng)
    return misread(spins, settings.readout_flip, rng)
