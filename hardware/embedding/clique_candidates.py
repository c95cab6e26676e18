"""Every place of a processor at which a shape fits, dead qubits and couplers considered."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qattn.hardware.embedding.clique_shapes import Shape, Tile
from qattn.hardware.embedding.working_graph import WorkingGraph

ENOUGH_PER_QUBIT = 20
"""Candidates for each qubit of the processor, beyond which more cost time and find little."""

MOST_SYMMETRIES = 24
"""Relabellings tried of each shape, at most."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Embeddings of one complete graph, which may overlap.

    Attributes:
        qubits: Positions in ``graph.qubits`` of each candidate's qubits, shape (candidates,
            largest); N after the last.
        chain: The chain of each, -1 after the last; same shape.
    """

    qubits: NDArray[np.int32]
    chain: NDArray[np.int8]

    def chains(self, chosen: NDArray[np.int64] | list[int]) -> list[list[list[int]]]:
        """Positions of the qubits of each chain of each chosen candidate."""
        return [
            [self.qubits[c, self.chain[c] == k].tolist() for k in range(self.chain[c].max() + 1)]
            for c in chosen
        ]


def find_candidates(
    graph: WorkingGraph, tile: Tile, shapes: list[Shape], rng: np.random.Generator
) -> Candidates:
    """Shapes at all their places, under random symmetries of the tile, that work in the graph.

    Args:
        graph: The working graph.
        tile: Tile of the shapes, and its places in the graph.
        shapes: At least one.
        rng: Chooses the symmetries.
    """
    N = len(graph.qubits)
    # Positions and couplers by table: hundreds of millions of look-ups would take minutes.
    position = np.full(graph.num_sites + 1, -1, dtype=np.int32)
    position[graph.qubits] = np.arange(N, dtype=np.int32)
    places = position[tile.places]
    coupled = np.zeros((N, N), dtype=bool)
    u, v = graph.coupler_ends.T
    coupled[u, v] = coupled[v, u] = True
    largest = max(len(shape.qubits) for shape in shapes)
    enough = ENOUGH_PER_QUBIT * N
    qubits, chain, total = [], [], 0
    for turn in range(MOST_SYMMETRIES):
        for shape in shapes:
            relabel = tile.symmetry(rng) if turn else np.arange(tile.graph.num_sites)
            found = _working(shape, places[:, relabel[shape.qubits]], coupled)
            qubits.append(_padded(found, largest, N))
            chain.append(_padded(np.broadcast_to(shape.chain, found.shape), largest, -1))
            total += len(found)
        if total >= enough:
            break
    everything = np.concatenate(qubits), np.concatenate(chain).astype(np.int8)
    keep = np.sort(rng.permutation(total)[:enough])
    return Candidates(everything[0][keep], everything[1][keep])


def _working(shape: Shape, at: NDArray[np.int32], coupled: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The rows of `at` where all that the shape needs is alive.

    Every coupler inside a chain is needed (a chain that is a tree falls apart without one), of
    those between two chains one.
    """
    at = at[(at >= 0).all(1)]
    a, b = shape.pairs
    first, second = shape.chain[a], shape.chain[b]
    inside = first == second
    at = at[coupled[at[:, a[inside]], at[:, b[inside]]].all(1)]
    a, b, first, second = a[~inside], b[~inside], first[~inside], second[~inside]
    pair = np.minimum(first, second) * len(shape.qubits) + np.maximum(first, second)
    order = np.argsort(pair, kind="stable")
    alive = coupled[at[:, a[order]], at[:, b[order]]]
    starts = np.flatnonzero(np.diff(pair[order], prepend=-1))
    return at[np.logical_or.reduceat(alive, starts, axis=1).all(1)]


def _padded(rows: NDArray[np.integer], width: int, value: int) -> NDArray[np.int32]:
    padded = np.full((len(rows), width), value, dtype=np.int32)
    padded[:, : rows.shape[1]] = rows
    return padded
