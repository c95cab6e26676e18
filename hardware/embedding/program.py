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

import numpy as np
import torch
from numpy.typing import NDArray

from qattn.hardware.embedding.placement import Placement
from qattn.ising import IsingBatch

FIELD_ENCODINGS = ("ghost", "ancilla", "direct")
"""How fields are programmed."""

FloatArray = NDArray[np.float64]


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
