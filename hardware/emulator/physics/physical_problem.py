"""An Ising problem or QUBO on the qubits of a processor, and the error that rejects one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class RejectedJobError(Exception):
    """A job that the processor does not run; its message reaches the user."""


@dataclass(frozen=True, eq=False)
class PhysicalProblem:
    r"""E(x) = Σ h x + Σ J x x in D-Wave's signs (low E is likely), as submitted or as programmed.

    x are spins ±1, or the bits 0 and 1 of a submitted QUBO until :meth:`qubo_as_ising`.

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

    def qubo_as_ising(self) -> "PhysicalProblem":
        """The Ising problem of this QUBO by x = (1 + s)/2, less the constant."""
        # Q x = Q/2 (1 + s), and Q x x' = Q/4 (1 + s + s' + s s'): each coupler adds to both ends.
        h = self.h / 2
        for end in self.ends.T:
            h = h + np.bincount(end, self.J, self.num_qubits) / 4
        return PhysicalProblem(self.qubits, h, self.couplers, self.ends, self.J / 4)

    def energies(self, values: NDArray[np.int8]) -> FloatArray:
        """E of each row of `values` (spins, or bits of a QUBO), shape (rows,)."""
        from scipy.sparse import csr_array

        u, v = self.ends.T
        quadratic = csr_array((self.J, (u, v)), shape=(self.num_qubits, self.num_qubits))
        columns = values.T.astype(np.float64)
        return np.asarray(self.h @ columns + ((quadratic @ columns) * columns).sum(0))
