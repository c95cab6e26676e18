"""Coupling groups of a Zephyr processor: couplers on whose sum there is a limit."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qattn.hardware.embedding.working_graph import WorkingGraph

IntArray = NDArray[np.int64]


def coupling_groups(graph: WorkingGraph) -> IntArray | None:
    """Which group of qubit u, and of qubit v, each coupler (u, v) counts in; shape (E, 2).

    Groups 2q and 2q + 1 belong to the q-th working qubit of a Zephyr graph: the couplers of a
    qubit fall into two groups by the half of the qubit's body that they meet, as in
    ``dwave.system.coupling_groups``. None for Pegasus, where all couplers of a qubit count
    together.
    """
    if graph.topology != "zephyr":
        return None
    m, t = graph.shape
    sides: list[IntArray] = []
    for near, far in (graph.couplers.T, graph.couplers.T[::-1]):
        U, _, J, Z = _zephyr_coordinates(near, m, t)
        u, w, j, z = _zephyr_coordinates(far, m, t)
        external, odd, internal = np.where(z > Z, 0, 1), Z + J - z, 2 * Z + J + 1 - w
        sides.append(np.where(u == U, np.where(j == J, external, odd), internal))
    groups: IntArray = 2 * graph.coupler_ends.astype(np.int64) + np.stack(sides, 1)
    return groups


def _zephyr_coordinates(
    labels: Any, m: int, t: int
) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """(u, w, j, z) of linear labels ((((u (2m + 1) + w) t + k) 2 + j) m + z)."""
    rest, z = np.divmod(np.asarray(labels, dtype=np.int64), m)
    rest, j = np.divmod(rest, 2)
    u, w = np.divmod(rest // t, 2 * m + 1)
    return u, w, j, z
