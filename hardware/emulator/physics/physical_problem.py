"""What a job programs: biases and couplings on the qubits that it uses, and how to anneal."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class RejectedJobError(Exception):
    """A job that the processor does not run; its message reaches the user."""


@dataclass(frozen=True, eq=False)
class Program:
    r"""An Ising problem E(s) = Σ h s + Σ J s s in D-Wave's signs, as submitted or as programmed.

    Args:
        qubits: Positions of the active qubits in the working graph, ascending, shape (n,).
        h: Their biases, shape (n,).
        couplers: Positions in the working graph of the couplers between active qubits, shape (e,).
        ends: Their ends as indices into `qubits`, shape (e, 2).
        J: Their couplings, shape (e,).
    """

    qubits: IntArray
    h: FloatArray
    couplers: IntArray
    ends: IntArray
    J: FloatArray

    @property
    def num_qubits(self) -> int:
        """Number of active qubits."""
        return len(self.qubits)
