"""QPU time of a job, by the timing model that a solver publishes in ``problem_timing_data``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Duration:
    """The parameters of a job that decide how long it runs; times in microseconds."""

    num_reads: int
    annealing_time: float
    programming_thermalization: float
    readout_thermalization: float
    reduce_intersample_correlation: bool


def readout_time(timing_data: Mapping[str, Any], num_qubits: int) -> float:
    """Predicted readout time of one read in microseconds."""
    # Interpolate log10(time) over log10(qubits): the model "pwl_log_log".
    q, t = np.split(np.asarray(timing_data["readout_time_model_parameters"]), 2)
    return float(10 ** np.interp(np.log10(max(1, num_qubits)), q, t))


def job_timing(
    timing_data: Mapping[str, Any],
    num_qubits: int,
    duration: Duration,
    spread: float,
    rng: np.random.Generator,
) -> dict[str, float]:
    """The ``timing`` of an answer, in microseconds.

    Programming and readout times deviate from the prediction by up to `spread`, relatively and
    independently; with spread 0, ``qpu_access_time`` is what
    ``Solver.estimate_qpu_access_time`` says.
    """
    factors = [1 + spread * rng.uniform(-1, 1) for _ in range(2)]
    programming = timing_data["typical_programming_time"] + duration.programming_thermalization
    programming = round(programming * factors[0], 2)
    readout = round(readout_time(timing_data, num_qubits) * factors[1], 2)
    pause = duration.readout_thermalization
    if duration.reduce_intersample_correlation:
        shortest, longest = timing_data["decorrelation_time_range"]
        share = duration.annealing_time / timing_data["decorrelation_max_nominal_anneal_time"]
        pause = max(pause, share * (longest - shortest) + shortest)
    delay = timing_data["qpu_delay_time_per_sample"] + pause
    sampling = round(duration.num_reads * (duration.annealing_time + readout + delay), 2)
    postprocessing = round(float(rng.uniform(1, 5)), 2)
    return {
        "qpu_sampling_time": sampling,
        "qpu_anneal_time_per_sample": duration.annealing_time,
        "qpu_readout_time_per_sample": readout,
        "qpu_access_time": round(programming + sampling, 2),
        "qpu_access_overhead_time": round(float(rng.uniform(1000, 20000)), 2),
        "qpu_programming_time": programming,
        "qpu_delay_time_per_sample": delay,
        "post_processing_overhead_time": postprocessing,
        "total_post_processing_time": postprocessing,
    }
