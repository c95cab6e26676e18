"""QPU time of a job, by the timing model that a solver publishes in ``problem_timing_data``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Duration:
    """What a job asks of the clock, in microseconds."""

    num_reads: int
    annealing_time: float
    programming_thermalization: float
    readout_thermalization: float
    reduce_intersample_correlation: bool


def readout_time(timing_data: Mapping[str, Any], num_qubits: int) -> float:
    """Predicted readout time of one read in microseconds."""
    q, t = np.split(np.asarray(timing_data["readout_time_model_parameters"]), 2)
    return float(10 ** np.interp(np.log10(max(1, num_qubits)), q, t))


def job_timing(
    timing_data: Mapping[str, Any],
    num_qubits: int,
    asked: Duration,
    spread: float,
    rng: np.random.Generator,
) -> dict[str, float]:
    """The ``timing`` of an answer, in microseconds.

    Programming and readout times deviate from the prediction by up to `spread`, relatively and
    independently; with spread 0, ``qpu_access_time`` is what
    ``Solver.estimate_qpu_access_time`` says.
    """
    factors = [1 + spread * rng.uniform(-1, 1) for _ in range(2)]
    programming = timing_data["typical_programming_time"] + asked.programming_thermalization
    programming = round(programming * factors[0], 2)
    readout = round(readout_time(timing_data, num_qubits) * factors[1], 2)
    pause = asked.readout_thermalization
    if asked.reduce_intersample_correlation:
        least, most = timing_data["decorrelation_time_range"]
        longest = timing_data["decorrelation_max_nominal_anneal_time"]
        pause = max(pause, asked.annealing_time / longest * (most - least) + least)
    delay = timing_data["qpu_delay_time_per_sample"] + pause
    sampling = round(asked.num_reads * (asked.annealing_time + readout + delay), 2)
    postprocessing = round(float(rng.uniform(1, 5)), 2)
    return {
        "qpu_sampling_time": sampling,
        "qpu_anneal_time_per_sample": asked.annealing_time,
        "qpu_readout_time_per_sample": readout,
        "qpu_access_time": round(programming + sampling, 2),
        "qpu_access_overhead_time": round(float(rng.uniform(1000, 20000)), 2),
        "qpu_programming_time": programming,
        "qpu_delay_time_per_sample": delay,
        "post_processing_overhead_time": postprocessing,
        "total_post_processing_time": postprocessing,
    }
