r"""What is programmed for a call: units, signs, the spin that carries fields, and limits.

With the device's inverse temperatures a problem of target :math:`\beta h, \beta J` is programmed,
in D-Wave's signs, as :math:`-\beta h/\beta_h` and :math:`-\beta J/\beta_J`: one scale for all
problems of a call. The fields are programmed

- "ghost": as couplings to one more spin, number 0, by which each read is multiplied;
- "ancilla": the same, with that spin held up by a flux bias, so that it is a field from the start
  of the anneal on. Reads are multiplied by it too, which changes nothing where it was held;
- "direct": as fields, which a fast anneal does not allow.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from qattn.hardware.placement import Placement

from qattn.ising import IsingBatch

FIELD_ENCODINGS = ("ghost", "ancilla", "direct")
"""How fields are programmed."""

FloatArray = NDArray[np.float64]
Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Program:
    """The problems of a call in the device's units and D-Wave's signs.

    Attributes:
        sizes: Programmed spins of each problem, shape (problems,); 0 where there is nothing to
            ask.
        h: Fields, shape (problems, m).
        J: Couplings, shape (problems, m, m), symmetric.
        clipped: Number of fields and couplings that were cut to the limits.
    """

    sizes: NDArray[np.int64]
    h: FloatArray
    J: FloatArray
    clipped: int = 0

    def on_slots(
        self, placement: Placement, num_slots: int, num_spins: int
    ) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
        """Fields (slots, n), couplings (slots, n, n) and used chains (slots, n) of a job."""
        i = np.arange(self.h.shape[1])
        there = i < placement.size[:, None]
        slot = np.broadcast_to(placement.slot[:, None], there.shape)
        chain = placement.offset[:, None] + i
        h = np.zeros((num_slots, num_spins))
        used = np.zeros((num_slots, num_spins), dtype=bool)
        h[slot[there], chain[there]] = self.h[placement.problem][there]
        used[slot[there], chain[there]] = True
        J = np.zeros((num_slots, num_spins, num_spins))
        pair = there[:, :, None] & there[:, None, :]
        where = tuple(
            np.broadcast_to(x, pair.shape)[pair]
            for x in (slot[:, :, None], chain[:, :, None], chain[:, None, :])
        )
        J[where] = self.J[placement.problem][pair]
        return h, J, used


def program(batch: IsingBatch, betas: tuple[float, float], field_encoding: str) -> Program:
    """The problems of a batch, number g · queries + q each, at the device's betas (β_h, β_J)."""
    h, J = (x.detach() for x in batch.scaled())
    scaled = IsingBatch(h / betas[0], J / betas[1], batch.lengths, validate=False)
    sizes = batch.num_active.ravel().copy()
    if field_encoding == "direct":
        linear, quadratic = scaled.dimod_biases()
        return Program(sizes, linear, quadratic[scaled.group_of_problem])
    linear, quadratic = scaled.with_ghost_spin().dimod_biases()
    sizes[sizes > 0] += 1
    return Program(sizes, linear, quadratic)


def carrier_qubits(
    placement: Placement, chains: NDArray[np.int32], gauge: NDArray[np.int8]
) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """Qubits of the spins that carry fields, and the sign that each has where the spin is up."""
    found = chains[placement.slot, placement.offset]
    signs = np.broadcast_to(gauge[placement.slot, placement.offset][:, None], found.shape)
    return found[found >= 0], signs[found >= 0]


def of_problems(placement: Placement, slots: NDArray[Number], width: int) -> NDArray[Number]:
    """Values of each placed problem's spins, shape (placed, reads, width), from those of chains.

    Args:
        placement: Where the problems are.
        slots: Values of all chains, shape (slots, reads, n).
        width: Programmed spins of the largest problem; absent ones are 0.
    """
    found = np.zeros((len(placement.problem), slots.shape[1], width), slots.dtype)
    for size in np.unique(placement.size).tolist():
        (chosen,) = (placement.size == size).nonzero()
        chains = placement.offset[chosen, None] + np.arange(size)
        found[chosen, :, :size] = np.take_along_axis(
            slots[placement.slot[chosen]], chains[:, None, :], axis=2
        )
    return found


def target_spins(
    programmed: NDArray[np.int8], field_encoding: str, shape: tuple[int, int]
) -> torch.Tensor:
    """Reads of the target's spins, shape (groups, queries, reads, n), from programmed ones."""
    if field_encoding != "direct":
        programmed = programmed[..., 1:] * programmed[..., :1]
    found: torch.Tensor = torch.from_numpy(programmed).unflatten(0, shape)
    return found


def clip(program: Program, most_h: float, most_J: float) -> Program:
    """The program with every field and coupling cut to the limits, and their number."""
    h, J = program.h.clip(-most_h, most_h), program.J.clip(-most_J, most_J)
    cut = int((h != program.h).sum() + (J != program.J).sum() // 2)
    return Program(program.sizes, h, J, cut)


def shares(num_reads: int, transforms: int, most: int) -> list[int]:
    """Reads of each submission: at least `transforms` parts, none above `most`."""
    parts = min(num_reads, max(transforms, -(-num_reads // most)))
    return [num_reads // parts + (part < num_reads % parts) for part in range(parts)]
