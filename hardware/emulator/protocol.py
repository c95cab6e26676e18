"""The "qp" encoding of problems and answers, as SAPI speaks it."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qattn.hardware.embedding.working_graph import WorkingGraph
from qattn.hardware.emulator.physics.physical_problem import (
    FloatArray,
    PhysicalProblem,
    RejectedJobError,
)


def decode_problem(data: Mapping[str, Any], graph: WorkingGraph) -> PhysicalProblem:
    """The problem of a job's ``data``.

    ``lin`` has a little-endian double for every working qubit, NaN where inactive; ``quad`` one
    for every working coupler between active qubits, in the order of the property ``couplers``.

    Raises:
        RejectedJobError: The data is of another form.
    """
    if data.get("format") != "qp":
        raise RejectedJobError(f"Unsupported problem format: {data.get('format')!r}")
    lin, quad = (_decode_doubles(data, key) for key in ("lin", "quad"))
    if len(lin) != len(graph.qubits):
        raise RejectedJobError(
            f"Problem has {len(lin)} linear terms, but the solver has {len(graph.qubits)} qubits"
        )
    # NaN marks a qubit as inactive; a coupler counts if both of its ends are active.
    active = ~np.isnan(lin)
    couplers = np.flatnonzero(active[graph.coupler_ends].all(1))
    if len(quad) > len(couplers):
        raise RejectedJobError(
            f"Problem has {len(quad)} quadratic terms, but the solver has {len(couplers)} couplers "
            f"between the active qubits"
        )
    # A client may leave out trailing zeros.
    J = np.zeros(len(couplers))
    J[: len(quad)] = quad
    if not (np.isfinite(lin[active]).all() and np.isfinite(J).all()):
        raise RejectedJobError("Problem has coefficients that are not finite")
    qubits = np.flatnonzero(active)
    # From positions in the working graph to indices into the active qubits.
    index = np.cumsum(active) - 1
    return PhysicalProblem(qubits, lin[active], couplers, index[graph.coupler_ends[couplers]], J)


def encode_answer(
    spins: NDArray[np.int8],
    energies: FloatArray,
    occurrences: NDArray[np.int64],
    labels: NDArray[np.int32],
    num_sites: int,
    timing: Mapping[str, float],
) -> dict[str, Any]:
    """The ``answer`` of a job.

    Args:
        spins: Answers over the active qubits, shape (answers, n); +1 is the bit 1.
        energies: Their energies without the offset.
        occurrences: How often each was read.
        labels: Labels of the active qubits.
        num_sites: The property ``num_qubits``.
        timing: The ``timing`` of the answer.
    """
    bits = np.packbits(spins > 0, axis=1)  # the first variable is the most significant bit
    return {
        "format": "qp",
        "num_variables": num_sites,
        "active_variables": _encode(labels.astype("<i4")),
        "energies": _encode(energies.astype("<f8")),
        "solutions": _encode(bits),
        "num_occurrences": _encode(occurrences.astype("<i4")),
        "timing": dict(timing),
    }


def histogram(
    spins: NDArray[np.int8], energies: FloatArray
) -> tuple[NDArray[np.int8], FloatArray, NDArray[np.int64]]:
    """Distinct answers by increasing energy, their energies, and how often each was read."""
    # Equal rows have equal bytes: compare each row, packed to bits, as one opaque value.
    packed = np.ascontiguousarray(np.packbits(spins > 0, axis=1))
    keys = packed.view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    order = np.argsort(energies[first], kind="stable")
    distinct = first[order]
    return spins[distinct], energies[distinct], counts[order]


def _decode_doubles(data: Mapping[str, Any], key: str) -> FloatArray:
    try:
        return np.frombuffer(base64.b64decode(data[key], validate=True), dtype="<f8")
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise RejectedJobError(f"Problem data {key!r} is not base64-encoded doubles") from None


def _encode(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")
