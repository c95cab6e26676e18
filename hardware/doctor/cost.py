r"""What a training step costs in problems, jobs and QPU access time, before anything is submitted.

Boltzmann attention draws reads once per layer: of the model of every head, sequence and query,
where query i (counted from 1) has i spins, and one more if a spin carries the fields.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qattn.field_encoding import FieldEncoding
from qattn.hardware.embedding.packing import Packing
from qattn.hardware.embedding.placement import Placement, place
from qattn.hardware.embedding.program import shares

AccessTime = Callable[[int, dict[str, Any]], float]
"""QPU access time of a job in seconds, as a function of its number of qubits and parameters."""


@dataclass(frozen=True)
class Workload:
    """A training run as a QPU sees it; the names are those of its settings.

    Args:
        context: Number of positions T.
        layers: Number of attention layers.
        heads: Number of heads of each layer.
        batch_size: Number of sequences in a step.
        ensemble: Number of models trained side by side.
        attention: "boltzmann", or "couplings", whose models are the same for all sequences.
        num_reads: Number of reads of each Ising model.
        steps: Number of steps.
        field_encoding: How fields are programmed.
        spin_reversal_transforms: Submissions among which reads are divided.

    Raises:
        ValueError: A number is not positive, or the encoding or the attention is unknown.
    """

    context: int = 12
    layers: int = 2
    heads: int = 4
    batch_size: int = 64
    ensemble: int = 1
    attention: str = "boltzmann"
    num_reads: int = 100
    steps: int = 1000
    field_encoding: str = "ghost"
    spin_reversal_transforms: int = 1

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, int) and value < 1:
                raise ValueError(f"Argument `{name}` must be positive, but is {value}.")
        FieldEncoding.parse(self.field_encoding)
        if self.attention not in ("boltzmann", "couplings"):
            raise ValueError(
                f"Argument `attention` must be one of boltzmann, couplings, "
                f"but is {self.attention!r}."
            )

    @property
    def encoding(self) -> FieldEncoding:
        """How fields are programmed."""
        return FieldEncoding(self.field_encoding)

    @property
    def num_spins(self) -> int:
        """Programmed spins of the largest problem."""
        return self.context + self.encoding.carrier

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Programmed spins of the problems of one layer in one step, group by group."""
        sequences = self.batch_size if self.attention == "boltzmann" else 1
        queries = self.encoding.programmed_sizes(np.arange(1, self.context + 1, dtype=np.int64))
        return np.tile(np.repeat(queries, sequences), self.heads * self.ensemble)


@dataclass(frozen=True)
class StepCost:
    """Cost of one training step.

    Attributes:
        problems: Ising models that are sampled.
        jobs: Submissions.
        access_time: Estimated QPU access time in seconds.
    """

    problems: int
    jobs: int
    access_time: float


def step_cost(
    workload: Workload,
    slots: Packing | int,
    access_time: AccessTime,
    *,
    annealing_time: float,
    max_reads: int,
) -> StepCost:
    """Cost of a step, with problems placed on slots as the backend places them.

    For a device without a packing yet it is a lower bound: the largest cliques of Zephyr and
    Pegasus graphs have four qubits, so n spins that are all coupled take at least 2n - 4 qubits,
    and so does a slot. Real packings hold a half to four fifths of these slots.

    Args:
        workload: The run.
        slots: Slots for problems of ``workload.num_spins`` spins; or the device's number of
            qubits, for the lower bound.
        access_time: The device's estimate.
        annealing_time: Duration of an anneal in ns.
        max_reads: Largest number of reads of one job.

    Raises:
        ValueError: No slot can fit.
    """
    n = workload.num_spins
    if isinstance(slots, Packing):
        num_slots = slots.num_slots
        # Number of qubits in the first k chains of each slot, shape (slots, n + 1).
        first = np.pad(slots.chain_lengths.cumsum(1), ((0, 0), (1, 0)))
    else:
        num_slots = slots // max(n, 2 * n - 4)
        if num_slots == 0:
            raise ValueError(f"Problems of {n} spins, all coupled, do not fit {slots} qubits.")

    def qubits(placement: Placement) -> int:
        if not isinstance(slots, Packing):
            return int(np.maximum(placement.size, 2 * placement.size - 4).sum())
        ends = first[placement.slot, placement.offset + placement.size]
        return int((ends - first[placement.slot, placement.offset]).sum())

    # One layer: every placement is programmed once for each part of the reads.
    sizes = workload.sizes
    placements = place(sizes, num_slots, n)
    parts = shares(workload.num_reads, workload.spin_reversal_transforms, max_reads)
    seconds = sum(
        access_time(
            qubits(placement), {"num_reads": num_reads, "annealing_time": 1e-3 * annealing_time}
        )
        for placement in placements
        for num_reads in parts
    )
    return StepCost(
        problems=workload.layers * len(sizes),
        jobs=workload.layers * len(placements) * len(parts),
        access_time=workload.layers * seconds,
    )
