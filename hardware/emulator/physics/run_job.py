"""Running a job: from its request to its answer."""

import json
from typing import Any

import numpy as np

from qattn.hardware.emulator.physics.device_noise import Device
from qattn.hardware.emulator.physics.physical_problem import Program
from qattn.hardware.emulator.physics.reads import draw_reads
from qattn.hardware.emulator.physics.timing import job_timing
from qattn.hardware.emulator.protocol import (
    aggregate,
    decode_problem,
    encode_answer,
    energies,
    from_qubo,
)
from qattn.hardware.emulator.rules import plan_job
from qattn.hardware.emulator.settings import EmulatorSettings


def run_job(
    request: Any, index: int, device: Device, settings: EmulatorSettings
) -> tuple[str, int, float]:
    """The answer of a job as JSON, its number of active qubits and its access time in µs.

    Raises:
        RejectedJobError: The processor does not run it.
    """
    submitted = decode_problem(request["data"], device.graph)
    qubo = request.get("type") == "qubo"
    ising: Program = from_qubo(submitted) if qubo else submitted
    plan = plan_job(ising, request.get("params") or {}, device)
    rng = np.random.default_rng([settings.seed, 2, index])
    data = device.properties["problem_timing_data"]
    timing = job_timing(data, ising.num_qubits, plan.duration, settings.timing_spread, rng)
    spins = draw_reads(plan, device, settings, index, rng)
    found = energies(submitted, (spins + 1) // 2 if qubo else spins)
    occurrences = np.ones(len(spins), dtype=np.int64)
    if plan.histogram:
        spins, found, occurrences = aggregate(spins, found)
    kept = slice(plan.max_answers)
    labels = device.graph.qubits[ising.qubits]
    answer = encode_answer(
        spins[kept], found[kept], occurrences[kept], labels, device.graph.num_sites, timing
    )
    return json.dumps(answer), ising.num_qubits, timing["qpu_access_time"]
