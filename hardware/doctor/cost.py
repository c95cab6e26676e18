r"""What a training step costs in problems, jobs and QPU access time, before anything is submitted.

Boltzmann attention draws reads once per layer: of the model of every head, sequence and query,
where query i (counted from 1) has i spins, and one more if a spin carries the fields.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qattn.hardware.embedding.packing import Packing
from qattn.hardware.embedding.pattern import Pattern
from qattn.hardware.embedding.placement import Placement, place
from qattn.hardware.embedding.program import shares
from qattn.hardware.settings import PAUSES, QPUSettings
from qattn.layers.structures import BandedStructure

AccessTime = Callable[[int, dict[str, Any]], float]
"""QPU access time of a job in seconds, as a function of its number of qubits and parameters."""


class Workload:
    """A training run as a QPU sees it.

    Args:
        training: Its settings, such as a :class:`~qattn.training.TrainConfig`: `context`, `layers`,
            `heads`, `batch_size`, `ensemble`, `attention`, `num_reads` and `steps`; `structure`,
            `coupling_width` and `content`, where its couplings have a structure; and
            `field_encoding`, `spin_reversal_transforms` and the pauses of
            :class:`~qattn.hardware.settings.QPUSettings`, where None means its default.

    Attributes:
        training: The settings.
        settings: Those of them that jobs depend on; their annealing time has no meaning.
        encoding: How fields are programmed.

    Raises:
        ValueError: The attention draws no reads, the encoding is unknown, or the number of
            submissions is not positive.
    """

    def __init__(self, training: Any) -> None:
        if training.attention not in ("boltzmann", "couplings"):
            raise ValueError(
                f"Argument `attention` must be one of boltzmann, couplings, "
                f"but is {training.attention!r}."
            )
        names = ("field_encoding", "spin_reversal_transforms", *PAUSES)
        given: dict[str, Any] = {name: getattr(training, name, None) for name in names}
        given = {name: value for name, value in given.items() if value is not None}
        self.settings = QPUSettings(annealing_time=1.0, **given)
        self.training, self.encoding = training, self.settings.encoding

    @property
    def pattern(self) -> Pattern:
        """What the largest problem couples; a band where the training's couplings are one."""
        width = None
        if getattr(self.training, "structure", "dense") == "banded":
            width = self.training.coupling_width or BandedStructure.width
        carrier = self.encoding.carrier
        return Pattern(int(self.training.context) + carrier, width, carrier)

    @property
    def num_spins(self) -> int:
        """Number of programmed spins of the largest problem."""
        return self.pattern.num_spins

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Programmed spins of the problems of one layer in one step, group by group."""
        training = self.training
        # Without fields and with couplings of all sequences these have the same models.
        differ = training.attention == "boltzmann" or getattr(training, "content", False)
        sequences = training.batch_size if differ else 1
        queries = np.arange(1, training.context + 1, dtype=np.int64)
        sizes = self.encoding.programmed_sizes(queries)
        return np.tile(np.repeat(sizes, sequences), training.heads * training.ensemble)


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

    For a device without a packing yet it is a lower bound, with slots of the fewest qubits that a
    processor could do with (:meth:`Pattern.fewest_qubits`). Real packings hold a half to four
    fifths of these slots.

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
    n, pattern = workload.num_spins, workload.pattern
    # Whether problems of a slot share the spin that carries their fields.
    shared = pattern.carrier
    if isinstance(slots, Packing):
        num_slots = slots.num_slots
        shared = workload.encoding.carrier if slots.pairs is not None else 0
        # Number of qubits in the first k chains of each slot, shape (slots, n + 1).
        first = np.pad(slots.chain_lengths.cumsum(1), ((0, 0), (1, 0)))
    else:
        num_slots = slots // pattern.fewest_qubits(n)
        if num_slots == 0:
            raise ValueError(f"Problems on {pattern.describe()} do not fit {slots} qubits.")

    def qubits(placement: Placement) -> int:
        used_slots = np.unique(placement.slot)
        if not isinstance(slots, Packing):
            fewest = [pattern.fewest_qubits(size) for size in range(n + 1)]
            return int(np.take(fewest, placement.size - shared).sum()) + shared * len(used_slots)
        # From the first chain that is a problem's own to its last; shared ones once for a slot.
        ends = first[placement.slot, placement.offset + placement.size]
        own = ends - first[placement.slot, placement.offset + shared]
        return int(own.sum() + first[used_slots, shared].sum())

    # One layer: every placement is programmed once for each part of the reads.
    training, sizes = workload.training, workload.sizes
    placements = place(sizes, num_slots, n, shared=shared)
    transforms = workload.settings.spin_reversal_transforms
    parts = shares(training.num_reads, transforms, max_reads)
    params = replace(workload.settings, annealing_time=annealing_time).timing_params
    seconds = sum(
        access_time(qubits(placement), params | {"num_reads": num_reads})
        for placement in placements
        for num_reads in parts
    )
    return StepCost(
        problems=training.layers * len(sizes),
        jobs=training.layers * len(placements) * len(parts),
        access_time=training.layers * seconds,
    )
