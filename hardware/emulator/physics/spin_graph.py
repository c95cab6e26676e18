r"""Spins with fields and couplings, and the removal of spins that follow others.

A weight exp(Σ_i a_i s_i + Σ_ij K_ij s_i s_j) is a graph whose last vertex, the ground, has s = +1
and carries the fields as its edges. If |K_ij| exceeds the sum of all other edges of spin i by T,
then whatever the other spins are, s_i ≠ sign(K_ij) s_j has odds below exp(-2T): spin i follows j.
Contracting such pairs removes the chains of an embedding, and spins that a flux bias pins.

Signs are the exponent's: positive K aligns. Only :meth:`SpinGraph.without_followers` depends on
them; the other operations are linear in the weights and hold for an energy in D-Wave's signs too.
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
        """Every vertex joined to its leader, as sign times that; leaders may lead in turn.

        Args:
            leader: Leader of each vertex, shape (n + 1,); the ground leads itself.
            sign: Sign of each vertex relative to its leader, shape (n + 1,).
        """
        # Follow the leaders of leaders to the last, with the product of the signs on the way.
        while (leader[leader] != leader).any():
            sign = sign * sign[leader]
            leader = leader[leader]
        # Number the remaining vertices in order: the ground, the largest, stays the last.
        kept, new = np.unique(leader, return_inverse=True)
        # s_u s_v = sign_u sign_v times the product of their leaders.
        signed = self.K * sign[self.ends[:, 0]] * sign[self.ends[:, 1]]
        # Add up the edges that now join the same pair of vertices, with one key for each pair.
        pairs = np.sort(new[self.ends], axis=1)
        key: IntArray = pairs[:, 0] * len(kept) + pairs[:, 1]
        edges, place = np.unique(key, return_inverse=True)
        K = np.asarray(np.bincount(place, signed, len(edges)), dtype=np.float64)
        ends = np.stack([edges // len(kept), edges % len(kept)], 1)
        # An edge within one vertex is a constant; edges that cancelled are none.
        real = (ends[:, 0] != ends[:, 1]) & (K != 0)
        return SpinGraph(
            len(kept) - 1, ends[real], K[real], new[self.vertex], self.sign * sign[self.vertex]
        )

    def expanded(self, spins: NDArray[np.int8]) -> NDArray[np.int8]:
        """Values of the original spins, shape (reads, spins), from those of all vertices."""
        return spins[:, self.vertex[:-1]] * self.sign[:-1]

    def without_followers(self, margin: float = MARGIN) -> "SpinGraph":
        """Contract spins that follow a neighbour or their own field, until none does."""
        graph = self
        while True:
            size = graph.num_spins + 1
            u, v = graph.ends.T
            # Sum of |K| over the edges of each vertex.
            strength = np.bincount(u, np.abs(graph.K), size) + np.bincount(v, np.abs(graph.K), size)
            leader, sign = np.arange(size), np.ones(size, np.int8)
            for follower, other in ((u, v), (v, u)):
                # |K| - (strength - |K|) > margin: no other edges outweigh this one.
                follows = 2 * np.abs(graph.K) - strength[follower] > margin
                follows &= follower != graph.num_spins
                leader[follower[follows]] = other[follows]
                sign[follower[follows]] = np.sign(graph.K[follows])
            # Of two that follow each other the first leads. No longer ring exists: each of its
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
        # Fields are the edges to the ground, always the second end; the rest are couplings.
        grounded = self.ends[:, 1] == n
        u, v = self.ends[~grounded].T
        K = self.K[~grounded]
        field = np.zeros(n)
        field[self.ends[grounded, 0]] = self.K[grounded]
        links = coo_array((np.ones(len(u), np.int8), (u, v)), shape=(n, n))
        number, label = connected_components(links, directed=False)
        sizes = np.bincount(label, minlength=number)
        # Spins sorted by component, where each component starts there, and each spin's place in it.
        order = np.argsort(label, kind="stable")
        first = np.concatenate([[0], np.cumsum(sizes)[:-1]]) if number else np.zeros(0, np.int64)
        within = np.empty(n, np.int64)
        within[order] = np.arange(n) - first[label[order]]
        batches = []
        for m in np.unique(sizes):
            chosen = np.flatnonzero(sizes == m)
            # Row of each component in this batch, -1 if it has another size.
            row = np.full(number, -1)
            row[chosen] = np.arange(len(chosen))
            vertices = order[first[chosen][:, None] + np.arange(m)]
            # Scatter the couplings of these components: (component, place of u, place of v).
            in_batch = row[label[u]] >= 0
            i, j = u[in_batch], v[in_batch]
            J = np.zeros((len(chosen), m, m))
            J[row[label[i]], within[i], within[j]] = K[in_batch]
            batches.append((vertices, field[vertices], J + J.transpose(0, 2, 1)))
        return batches
