"""Small embeddings of a complete graph in a tile: the shapes that a packing repeats."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qattn.hardware.embedding.working_graph import WorkingGraph

TILES = {"zephyr": (0, 0, 14, 22, 28), "pegasus": (0, 0, 0, 10, 18, 26)}
"""First n for which a tile of size m = index no longer has room to choose; larger: one more."""

ENOUGH_SHAPES = 64
"""Larger shapes are kept only if there are fewer than this many smaller ones..."""

SLACK = 0.1
"""... and up to this fraction more qubits than the smallest. Variety fills gaps."""


@dataclass(frozen=True, eq=False)
class Tile:
    """A small perfect graph of a topology, and where it fits into a processor.

    Attributes:
        graph: The tile.
        places: Label in the processor of each label of the tile, shape (places, sites); -1 for
            labels that the tile does not have.
    """

    graph: WorkingGraph
    places: NDArray[np.int32]

    @classmethod
    def of(cls, graph: WorkingGraph, num_spins: int) -> "Tile":
        """The tile for cliques of `num_spins` in a processor, all shifts of it."""
        import dwave.graphs

        topology = graph.topology
        m = sum(num_spins >= first for first in TILES[topology])
        small = WorkingGraph.perfect(topology, min(m, graph.shape[0]), *graph.shape[1:])
        whole = WorkingGraph.perfect(topology, *graph.shape).to_networkx()
        mappings = getattr(dwave.graphs, f"{topology}_sublattice_mappings")
        labels = small.qubits.tolist()
        found = [[f(q) for q in labels] for f in mappings(small.to_networkx(), whole)]
        places = np.full((len(found), small.num_sites), -1, dtype=np.int32)
        places[:, small.qubits] = found
        return cls(small, places)

    def symmetry(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """A random relabelling of the tile that keeps its couplers, shape (sites,).

        Zephyr's t parallel qubits of one orientation, line and position have the same neighbours,
        and so have two of Pegasus' 12: exchanging the tracks of a line is a symmetry.
        """
        labels = np.arange(self.graph.num_sites)
        m = self.graph.shape[0]
        if self.graph.topology == "zephyr":
            t = self.graph.shape[1]
            along, tracks = 2 * m, t
        else:
            along, tracks = m - 1, 2
        line, track, position = (
            labels // (along * tracks),
            labels // along % tracks,
            labels % along,
        )
        order = rng.permuted(np.tile(np.arange(tracks), (int(line[-1]) + 1, 1)), axis=1)
        exchanged: NDArray[np.int64] = (line * tracks + order[line, track]) * along + position
        return exchanged


@dataclass(frozen=True, eq=False)
class Shape:
    """An embedding of a complete graph in a tile.

    Attributes:
        qubits: Labels of its qubits in the tile, chain by chain.
        chain: The chain of each.
        pairs: Positions in `qubits` of the ends of all couplers between them, shape (2, couplers).
    """

    qubits: NDArray[np.int64]
    chain: NDArray[np.int64]
    pairs: NDArray[np.int64]

    @classmethod
    def of(cls, chains: list[list[int]], tile: WorkingGraph) -> "Shape":
        """The shape with these chains."""
        qubits = np.array([q for chain in chains for q in chain])
        chain = np.repeat(np.arange(len(chains)), [len(c) for c in chains])
        u, v = np.triu_indices(len(qubits), 1)
        joined = tile.position_of_coupler(qubits[u], qubits[v]) >= 0
        return cls(qubits, chain, np.stack([u[joined], v[joined]]))


def clique_edges(num_spins: int) -> list[tuple[int, int]]:
    """Edges of the complete graph."""
    return [(j, k) for j in range(num_spins) for k in range(j + 1, num_spins)]


def find_clique(num_spins: int, edges: list[Any], seed: int) -> list[list[int]] | None:
    """Chains of one minorminer embedding of a complete graph in a small graph, or None."""
    import minorminer

    found = minorminer.find_embedding(
        clique_edges(num_spins),
        edges,
        random_seed=seed,
        tries=1,
        max_no_improvement=10,
        chainlength_patience=10,
    )
    return [sorted(found[spin]) for spin in range(num_spins)] if found else None


def find_shapes(tile: WorkingGraph, num_spins: int, *, uniform: bool, seed: int) -> list[Shape]:
    """Different shapes of about the smallest size that a number of minorminer's runs find.

    Args:
        tile: Where to embed.
        num_spins: Spins of the complete graph.
        uniform: Make all chains as long as the longest, with neighbours that are free.
        seed: Fixes the result.
    """
    rng = np.random.default_rng(seed)
    edges = [(u, v) for u, v in tile.couplers.tolist()]
    found = set()
    for _ in range(number_of_runs(num_spins)):
        chains = find_clique(num_spins, edges, int(rng.integers(2**31)))
        if chains is not None:
            found.add(tuple(sorted(map(tuple, chains))))
    shapes = [[list(chain) for chain in chains] for chains in sorted(found)]
    if uniform:
        shapes = [
            longer
            for chains in shapes
            for _ in range(4)
            if (longer := _lengthened(chains, tile, rng)) is not None
        ]
    if not shapes:
        return []
    sizes = sorted(map(_size, shapes))
    limit = min(sizes[:ENOUGH_SHAPES][-1], (1 + SLACK) * sizes[0])
    return [Shape.of(chains, tile) for chains in shapes if _size(chains) <= limit]


def number_of_runs(num_spins: int) -> int:
    """How many runs of minorminer are worth their time, which grows fast with n."""
    return int(np.clip(500_000 // num_spins**3, 8, 200))


def _size(chains: list[list[int]]) -> int:
    return sum(map(len, chains))


def _lengthened(
    chains: list[list[int]], tile: WorkingGraph, rng: np.random.Generator
) -> list[list[int]] | None:
    """The chains, all as long as the longest, by free neighbours chosen at random."""
    neighbours: dict[int, list[int]] = {}
    for u, v in tile.couplers.tolist():
        neighbours.setdefault(u, []).append(v)
        neighbours.setdefault(v, []).append(u)
    used = {q for chain in chains for q in chain}
    longest = max(map(len, chains))
    result = []
    for chain in chains:
        longer = list(chain)
        while len(longer) < longest:
            free = [p for q in longer for p in neighbours[q] if p not in used]
            if not free:
                return None
            longer.append(free[int(rng.integers(len(free)))])
            used.add(longer[-1])
        result.append(longer)
    return result
