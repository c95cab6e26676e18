"""The solver definition of an emulated processor: what D-Wave's processors publish of themselves.

Ranges and times are those of D-Wave's documentation ("Per-QPU solver properties", "General QPU
solver properties"): of Advantage2_system2 for a Zephyr graph of 12 rows or more, of
Advantage2_system4 for a smaller one, of Advantage_system4.1 for Pegasus. Where the documentation
has only a range of readout times, the readout model interpolates between its ends.
"""

import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from qattn.hardware.embedding.working_graph import WorkingGraph
from qattn.hardware.emulator.physics.device_models import DEVICE_MODELS, DeviceModel

H_PER_PHI0 = {"zephyr": -1825.0, "pegasus": -1534.0}
"""Field h that acts as a flux bias of one Φ0, published as ``emulated_h_per_phi0``: what
``dwave.system.temperatures.fluxbias_to_h`` gives with the mutual inductance (0.514 pH, 1.554 pH)
and B at single-qubit freeze-out (7.54 GHz, 3.53 GHz) of Advantage2_system4 and Advantage_system6.
The sign is opposite to that of h. 0.003 Φ0 is a field of 5."""

PARAMETERS = {
    "anneal_offsets": "Anneal offsets for all qubits, in normalized offset units.",
    "anneal_schedule": "Piecewise-linear anneal schedule: pairs of time (µs) and fraction s.",
    "annealing_time": "Duration of one anneal in microseconds.",
    "answer_mode": "Form of the answer: 'histogram' or 'raw'.",
    "auto_scale": "Whether h and J are rescaled to the available range; on by default.",
    "fast_anneal": "Whether the fast-anneal protocol is used.",
    "flux_biases": "Flux-bias offsets for all qubits, in units of Φ0.",
    "flux_drift_compensation": "Whether flux drift is compensated for; on by default.",
    "h_gain_schedule": "Piecewise-linear gain of h: pairs of time (µs) and gain.",
    "initial_state": "Initial states for reverse anneals, for all qubits.",
    "max_answers": "Largest number of answers that are returned.",
    "num_reads": "Number of reads.",
    "programming_thermalization": "Wait after programming in microseconds.",
    "readout_thermalization": "Wait after each read in microseconds.",
    "reduce_intersample_correlation": "Whether a pause is added between reads.",
    "reinitialize_state": "Whether reverse anneals start each read from the initial state.",
}
"""Name and description of each parameter that D-Wave's annealers publish."""

DEFAULT_ANNEALING_TIME = 20.0
DEFAULT_PROGRAMMING_THERMALIZATION = 1000.0


@dataclass(frozen=True, eq=False)
class EmulatedDevice:
    """An emulated processor.

    Args:
        graph: Its working graph.
        name: Solver name.
        model: The real processor whose times it has; None means one of the graph's size.
    """

    graph: WorkingGraph
    name: str
    model: DeviceModel | None = None

    @property
    def graph_id(self) -> str:
        """Identity of the working graph, which changes whenever a qubit or coupler dies."""
        return self.graph.digest[:10]

    @property
    def identity(self) -> dict[str, Any]:
        """Name and version as every message carries them."""
        return {"name": self.name, "version": {"graph_id": self.graph_id}}

    @cached_property
    def properties(self) -> dict[str, Any]:
        """The solver's properties."""
        zephyr = self.graph.topology == "zephyr"
        coupling_range = (
            {"per_group_coupling_range": [-13.0, 10.0]}
            if zephyr
            else {"per_qubit_coupling_range": [-18.0, 15.0]}
        )
        sites = self.graph.num_sites
        working = np.isin(np.arange(sites), self.graph.qubits)
        return {
            "emulated": True,
            "emulated_h_per_phi0": H_PER_PHI0[self.graph.topology],
            "num_qubits": sites,
            "qubits": self.graph.qubits.tolist(),
            "couplers": self.graph.couplers.tolist(),
            "topology": {"type": self.graph.topology, "shape": list(self.graph.shape)},
            "category": "qpu",
            "chip_id": self.name,
            "tags": ["emulated"],
            "supported_problem_types": ["ising", "qubo"],
            "parameters": PARAMETERS,
            "h_range": [-4.0, 4.0],
            "j_range": [-1.0, 1.0],
            "extended_j_range": [-2.0, 1.0],
            **coupling_range,
            "h_gain_schedule_range": [-4.0, 4.0] if zephyr else [-3.0, 3.0],
            "anneal_offset_ranges": [[-0.5, 0.5] if on else [0.0, 0.0] for on in working],
            "anneal_offset_step": -0.0001500217998314891,
            "anneal_offset_step_phi0": 1.4303846404537006e-05,
            "annealing_time_range": [0.5, 2000.0],
            "fast_anneal_time_range": [0.005, 2000.0],
            "default_annealing_time": DEFAULT_ANNEALING_TIME,
            "default_programming_thermalization": DEFAULT_PROGRAMMING_THERMALIZATION,
            "default_readout_thermalization": 0.0,
            "programming_thermalization_range": [0.0, 10000.0],
            "readout_thermalization_range": [0.0, 10000.0],
            "max_anneal_schedule_points": 12,
            "max_h_gain_schedule_points": 20,
            "num_reads_range": [1, 10000],
            "problem_run_duration_range": [0.0, 1000000.0],
            "problem_timing_data": self._timing_data(),
            "quota_conversion_rate": 1,
        }

    @cached_property
    def definition(self) -> dict[str, Any]:
        """The solver definition without its changing part (status and load)."""
        return {
            "identity": self.identity,
            "description": "EMULATED QPU, for development and tests: no result from it is a "
            "quantum computer's.",
            "properties": self.properties,
        }

    @cached_property
    def definition_json(self) -> str:
        """The solver definition as JSON, made once: it lists every coupler."""
        return json.dumps(self.definition)

    def _timing_data(self) -> dict[str, Any]:
        if self.graph.topology == "pegasus":
            programming, delay = 14072.88, 20.54
            qubits = [0.0, 0.77, 1.7243, 2.712, 3.1639, 3.7503]
            readout = [1.5391, 1.8727, 2.1256, 2.3327, 2.3716, 2.37162]
        else:
            size = "advantage2-system2" if self.graph.shape[0] >= 12 else "advantage2-system4"
            model = self.model or DEVICE_MODELS[size]
            programming, delay = model.programming_time, model.delay_time
            qubits = [0.0, math.log10(max(2, len(self.graph.qubits)))]
            readout = [math.log10(time) for time in model.readout_times]
        return {
            "version": "1.0.0",
            "typical_programming_time": programming,
            "reverse_annealing_with_reinit_prog_time_delta": 0.0,
            "reverse_annealing_without_reinit_prog_time_delta": 5.55,
            "default_programming_thermalization": DEFAULT_PROGRAMMING_THERMALIZATION,
            "default_annealing_time": DEFAULT_ANNEALING_TIME,
            "readout_time_model": "pwl_log_log",
            "readout_time_model_parameters": qubits + readout,
            "qpu_delay_time_per_sample": delay,
            "reverse_annealing_with_reinit_delay_time_delta": -4.5,
            "reverse_annealing_without_reinit_delay_time_delta": -1.5,
            "default_readout_thermalization": 0.0,
            "decorrelation_max_nominal_anneal_time": 2000.0,
            "decorrelation_time_range": [500.0, 10000.0],
        }
