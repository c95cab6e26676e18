"""What a call programs, within the device's limits, and which qubits carry fields."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qattn.field_encoding import ProgrammedBatch
from qattn.hardware.embedding.placement import Placement


def carrier_qubits(
    placement: Placement, chains: NDArray[np.int32], gauge: NDArray[np.int8]
) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """Qubits of the spins that carry fields, and the sign that each has where the spin is up."""
    # A carrier is spin 0 of its problem.
    rows = np.arange(len(placement.slot))
    place = placement.slot, placement.chain(rows, np.zeros_like(rows))
    qubits = chains[place]
    signs = np.broadcast_to(gauge[place][:, None], qubits.shape)
    return qubits[qubits >= 0], signs[qubits >= 0]


def clip(programmed: ProgrammedBatch, max_h: float, max_J: float) -> tuple[ProgrammedBatch, int]:
    """The problems with every field and coupling cut to the limits, and how many were cut.

    A coupling that several problems share counts once for each of them.
    """
    h, J = programmed.h.clamp(-max_h, max_h), programmed.J.clamp(-max_J, max_J)
    cut_fields = int((h != programmed.h).sum())
    # Both triangles of J hold each coupling.
    cut_couplings = (J != programmed.J).sum((1, 2)).numpy() // 2
    cut = cut_fields + int(cut_couplings[programmed.group].sum())
    return replace(programmed, h=h, J=J), cut


def shares(num_reads: int, transforms: int, max_reads: int) -> list[int]:
    """Reads of each submission: at least `transforms` parts, none above `max_reads`."""
    parts = min(num_reads, max(transforms, -(-num_reads // max_reads)))
    return [num_reads // parts + (part < num_reads % parts) for part in range(parts)]
