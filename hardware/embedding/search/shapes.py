"""Small embeddings of a pattern in a tile: the shapes that a packing repeats."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qattn.hardware.embedding.pattern import Pattern
from qattn.hardware.embedding.working_graph import WorkingGraph

TILES = {"zephyr": (0, 0, 14, 22, 28), "pegasus": (0, 0, 0, 10, 18, 26)}
"""Thresholds of n for cliques: the tile's size m is the number of entries that n reaches."""

BAND_TILES = {"zephyr": (0,), "pegasus": (0, 0)}
"""The same for bands, of which long ones need no tile."""

ENOUGH_SHAPES = 64
"""Larger shapes are kept only while there are fewer than this many smaller ones …"""

SLACK = 0.1
"""… and only up to this fraction more qubits than the smallest. Variety fills gaps."""


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
    def of(cls, graph: WorkingGraph, pattern: Pattern) -> "Tile":
        """The tile for a pattern in a processor, with all its shifts."""
        import dwave.graphs

        topology = graph.topology
        thresholds = (TILES if pattern.width is None else BAND_TILES)[topology]
        m = sum(pattern.num_spins >= first for first in thresholds)
        small = WorkingGraph.perfect(topology, min(m, graph.shape[0]), *graph.shape[1:])
        whole = WorkingGraph.perfect(topology, *graph.shape).to_networkx()
        mappings = getattr(dwave.graphs, f"{topology}_sublattice_mappings")
        labels = small.qubits.tolist()
        shifted = [[f(q) for q in labels] for f in mappings(small.to_networkx(), whole)]
        # Columns are the tile's labels, so that a shape's labels index them; a Pegasus tile has
        # fewer qubits than labels, and the columns of the others stay -1.
        places = np.full((len(shifted), small.num_sites), -1, dtype=np.int32)
        places[:, small.qubits] = shifted
        return cls(small, places)

    def symmetry(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """A random relabelling of the tile that keeps its couplers, shape (sites,).

        Zephyr's t parallel qubits of one orientation, line and position have the same neighbours,
        and so have two of Pegasus' 12: exchanging the tracks of a line is a symmetry.
        """
        labels = np.arange(self.graph.num_sites)
        m = self.graph.shape[0]
        # A label is (line · tracks + track) · along + position, where the line comprises the
        # orientation and the perpendicular offset, and a track has `along` qubits.
        if self.graph.topology == "zephyr":
            t = self.graph.shape[1]
            along, tracks = 2 * m, t
        else:
            along, tracks = m - 1, 2
        line = labels // (along * tracks)
        track = labels // along % tracks
        position = labels % along
        # One permutation of the tracks for each line, shape (lines, tracks).
        order = rng.permuted(np.tile(np.arange(tracks), (int(line[-1]) + 1, 1)), axis=1)
        exchanged: NDArray[np.int64] = (line * tracks + order[line, track]) * along + position
        return exchanged


@dataclass(frozen=True, eq=False)
class Shape:
    """An embedding of a pattern in a tile.

    Attributes:
        qubits: Labels of its qubits in the tile, chain by chain, shape (size,).
        chain: The chain of each qubit, shape (size,).
        pairs: Positions in `qubits` of the ends of the couplers inside chains, and of those between
            chains that the pattern couples, shape (2, couplers).
    """

    qubits: NDArray[np.int64]
    chain: NDArray[np.int64]
    pairs: NDArray[np.int64]

    @classmethod
    def of(cls, chains: Sequence[Sequence[int]], tile: WorkingGraph, pattern: Pattern) -> "Shape":
        """The shape with these chains, labels of the tile."""
        qubits = np.array([q for chain in chains for q in chain])
        chain = np.repeat(np.arange(len(chains)), [len(c) for c in chains])
        # Which chains may couple: the pattern's pairs, and every chain with itself.
        needed = np.eye(pattern.num_spins, dtype=bool)
        needed[tuple(pattern.all_pairs.T)] = True
        # Of all pairs of its qubits, those that the pattern needs and the tile couples.
        u, v = np.triu_indices(len(qubits), 1)
        wanted = needed[chain[u], chain[v]]
        u, v = u[wanted], v[wanted]
        joined = tile.position_of_coupler(qubits[u], qubits[v]) >= 0
        return cls(qubits, chain, np.stack([u[joined], v[joined]]))


def find_embedding(pattern: Pattern, edges: list[Any], seed: int) -> list[list[int]] | None:
    """Chains of one minorminer embedding of a pattern in a small graph, or None."""
    import minorminer

    embedding = minorminer.find_embedding(
        pattern.all_pairs.tolist(),
        edges,
        random_seed=seed,
        tries=1,
        max_no_improvement=10,
        chainlength_patience=10,
    )
    spins = range(pattern.num_spins)
    return [sorted(embedding[spin]) for spin in spins] if embedding else None


def find_shapes(tile: WorkingGraph, pattern: Pattern, *, seed: int) -> list[Shape]:
    """Different shapes of about the smallest size found in a number of minorminer's runs.

    Args:
        tile: Where to embed.
        pattern: What is coupled.
        seed: Fixes the result.
    """
    rng = np.random.default_rng(seed)
    edges = [(u, v) for u, v in tile.couplers.tolist()]
    different = set()
    for _ in range(number_of_runs(pattern)):
        chains = find_embedding(pattern, edges, int(rng.integers(2**31)))
        if chains is not None:
            # All spins of a clique are alike: sorted chains are the same shape only once.
            alike = chains if pattern.width is not None else sorted(chains)
            different.add(tuple(map(tuple, alike)))
    if not different:
        return []
    sizes = sorted(map(_size, different))
    limit = min(sizes[:ENOUGH_SHAPES][-1], (1 + SLACK) * sizes[0])
    return [
        Shape.of(chains, tile, pattern) for chains in sorted(different) if _size(chains) <= limit
    ]


def number_of_runs(pattern: Pattern) -> int:
    """Number of minorminer's runs that are worth their time, which grows fast with n."""
    n = pattern.num_spins
    return int(np.clip(500_000 // n**3 if pattern.width is None else 4_000 // n, 8, 200))


def _size(chains: Sequence[Sequence[int]]) -> int:
    return sum(map(len, chains))
