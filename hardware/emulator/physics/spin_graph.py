r"""Spins with fields and couplings, and the removal of spins that follow others.

A weight exp(Σ_i a_i s_i + Σ_ij K_ij s_i s_j) is a graph whose last vertex, the ground, has s = +1
and carries the fields as its edges. If |K_ij| exceeds the sum of all other edges of spin i by T,
then whatever the other spins are, s_i ≠ sign(K_ij) s_j has odds below exp(-2T): spin i follows j.
Contracting such pairs removes the chains of an embedding, and spins that a flux bias pins.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from qattn.hardware.emulator.physics.physical_problem import FloatArray, IntArray

BREAK_PROBABILITY = 1e-9
"""Largest probability that a contracted spin of a read would not have followed its neighbour."""

MARGIN = math.log(1 / BREAK_PROBABILITY) / 2
"""T for :data:`BREAK_PROBABILITY`."""


@dataclass(frozen=True, eq=False)
class SpinGraph:
    """Vertices 0 to n - 1 are spins, vertex n is the ground.

    Args:
        num_spins: n.
        ends: Pairs u < v of vertices, each once, shape (e, 2).
        K: Weight of each edge, shape (e,).
        vertex: Which vertex each original spin is part of, and the ground last.
        sign: Its sign relative to that vertex, +1 or -1.
    """

    num_spins: int
    ends: IntArray
    K: FloatArray
    vertex: IntArray
    sign: NDArray[np.int8]

    @classmethod
    def build(cls, a: FloatArray, ends: IntArray, K: FloatArray) -> "SpinGraph":
        """The graph of exp(Σ a s + Σ K s s)."""
        n = len(a)
        spins = np.arange(n)
        ends = np.concatenate([ends, np.stack([spins, np.full(n, n)], 1)])
        identity = np.arange(n + 1)
        start = cls(n, ends, np.concatenate([K, a]), identity, np.ones(n + 1, np.int8))
        return start.collapsed(identity, start.sign)

    def collapsed(self, leader: IntArray, sign: NDArray[np.int8]) -> "SpinGraph":
        """Every vertex joined to its leader, as sign times that; leaders may lead in turn."""
        while (leader[leader] != leader).any():
            sign = sign * sign[leader]
            leader = leader[leader]
        kept, new = np.unique(leader, return_inverse=True)
        signed = self.K * sign[self.ends[:, 0]] * sign[self.ends[:, 1]]
        pairs = np.sort(new[self.ends], axis=1)
        key: IntArray = pairs[:, 0] * len(kept) + pairs[:, 1]
        edges, place = np.unique(key, return_inverse=True)
        K = np.asarray(np.bincount(place, signed, len(edges)), dtype=np.float64)
        ends = np.stack([edges // len(kept), edges % len(kept)], 1)
        real = (ends[:, 0] != ends[:, 1]) & (K != 0)
        return SpinGraph(
            len(kept) - 1, ends[real], K[real], new[self.vertex], self.sign * sign[self.vertex]
        )

    def without_followers(self, margin: float = MARGIN) -> "SpinGraph":
        """Contract spins that follow a neighbour or their own field, until none does."""
        graph = self
        while True:
            size = graph.num_spins + 1
            u, v = graph.ends.T
            strength = np.bincount(u, np.abs(graph.K), size) + np.bincount(v, np.abs(graph.K), size)
            leader, sign = np.arange(size), np.ones(size, np.int8)
            for follower, other in ((u, v), (v, u)):
                follows = 2 * np.abs(graph.K) - strength[follower] > margin
                follows &= follower != graph.num_spins
                leader[follower[follows]] = other[follows]
                sign[follower[follows]] = np.sign(graph.K[follows])
            # Of two that follow each other the first leads. There is no longer ring: each of its
            # edges would have to be stronger than the next.
            spins = np.arange(size)
            mutual = (leader[leader] == spins) & (leader > spins)
            leader[mutual], sign[mutual] = spins[mutual], 1
            if (leader == spins).all():
                return graph
            graph = graph.collapsed(leader, sign)

    def components(self) -> list[tuple[IntArray, FloatArray, FloatArray]]:
        """Connected components in batches of equal size.

        Returns:
            For each size m: the vertices (components, m), their fields (components, m) and their
            couplings (components, m, m), symmetric with zero diagonal.
        """
        from scipy.sparse import coo_array

        n = self.num_spins
        grounded = self.ends[:, 1] == n
        u, v = self.ends[~grounded].T
        K = self.K[~grounded]
        links = coo_array((np.ones(len(u), np.int8), (u, v)), shape=(n, n))
        number, label = connected_components(links, directed=False)
        sizes = np.bincount(label, minlength=number)
        order = np.argsort(label, kind="stable")
        first = np.concatenate([[0], np.cumsum(sizes)[:-1]]) if number else np.zeros(0, np.int64)
        within = np.empty(n, np.int64)
        within[order] = np.arange(n) - first[label[order]]
        field = np.zeros(n)
        field[self.ends[grounded, 0]] = self.K[grounded]
        batches = []
        for m in np.unique(sizes):
            chosen = np.flatnonzero(sizes == m)
            row = np.full(number, -1)
            row[chosen] = np.arange(len(chosen))
            vertices = order[first[chosen][:, None] + np.arange(m)]
            here = row[label[u]] >= 0
            J = np.zeros((len(chosen), m, m))
            J[row[label[u[here]]], within[u[here]], within[v[here]]] = K[here]
            batches.append((vertices, field[vertices], J + J.transpose(0, 2, 1)))
        return batches
