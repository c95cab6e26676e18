"""Published figures of real processors, for emulated ones of their size and pace.

Source: D-Wave, "Per-QPU Solver Properties" (July 2026),
docs.dwavequantum.com/en/latest/quantum_research/solver_properties_specific.html. Which qubits and
couplers a processor lacks stands only in its solver definition, which needs an account: here they
are chosen at random, as many as are missing.
"""

from dataclasses import dataclass

from qattn.hardware.embedding.working_graph import WorkingGraph

CHAIN_OFFSET = 0.01
"""Standard deviation of the offsets of qubits in chains with J = -2 that emulations of real
processors have by default, in units of h.

D-Wave says that strong negative couplings introduce biases which may need flux biases ("General
QPU Solver Properties", ``extended_j_range``; "Error Sources for Problem Representation",
"Calibration Refinement"), not how large they are. For comparison: the qubits' ordinary offsets,
for which ``dwave.experimental.shimming`` assumes magnetizations of 1/32 at a temperature of 0.112
in h, are about 0.0035."""


@dataclass(frozen=True)
class DeviceModel:
    """What is published of a Zephyr processor.

    Attributes:
        name: Its solver's name.
        rows: m of its graph Z_m, whose tiles have t = 4.
        num_qubits: Working qubits.
        num_couplers: Working couplers.
        programming_time: Typical, in µs.
        readout_times: Of one read in µs, of one qubit and of all.
        delay_time: Per read, in µs.
        temperature: Of the processor, in mK.
    """

    name: str
    rows: int
    num_qubits: int
    num_couplers: int
    programming_time: float
    readout_times: tuple[float, float]
    delay_time: float
    temperature: float

    def graph(self, seed: int = 0) -> WorkingGraph:
        """A working graph with as many qubits and couplers, the others dead at random."""
        perfect = WorkingGraph.perfect("zephyr", self.rows)
        return perfect.with_counts(self.num_qubits, self.num_couplers, seed)


DEVICE_MODELS = {
    "advantage2-system1": DeviceModel(
        "Advantage2_system1", 12, 4577, 41515, 33600.0, (17.0, 101.0), 60.6, 20.0
    ),
    "advantage2-system2": DeviceModel(
        "Advantage2_system2", 12, 4514, 40409, 24500.0, (17.0, 95.0), 20.6, 16.7
    ),
    "advantage2-system4": DeviceModel(
        "Advantage2_system4", 6, 1202, 10537, 8000.0, (17.0, 45.0), 20.6, 18.0
    ),
}
"""The processors by the name that a user gives."""


def device_model(name: str | None) -> DeviceModel | None:
    """The processor of this name; None for None.

    Raises:
        ValueError: There is none.
    """
    if name is None:
        return None
    if name not in DEVICE_MODELS:
        raise ValueError(
            f"Argument `device` must be one of {', '.join(DEVICE_MODELS)}, but is {name!r}."
        )
    return DEVICE_MODELS[name]
