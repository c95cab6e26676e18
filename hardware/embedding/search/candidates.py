"""Every place of a processor at which a shape fits between dead qubits and couplers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qattn.hardware.embedding.search.shapes import Shape, Tile
from qattn.hardware.embedding.working_graph import WorkingGraph

ENOUGH_PER_QUBIT = 20
"""Candidates per qubit of the processor, beyond which more take time and gain little."""

MAX_SYMMETRIES = 24
"""Largest number of relabellings tried of each shape."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Embeddings of one pattern, which may overlap.

    Attributes:
        qubits: Positions in ``graph.qubits`` of each candidate's qubits, shape (candidates,
            largest); N, the number of qubits, after the last.
        chain: The chain of each of these qubits, same shape; -1 after the last.
    """

    qubits: NDArray[np.int32]
    chain: NDArray[np.int16]

    def chains(self, chosen: NDArray[np.int64] | list[int]) -> list[list[list[int]]]:
        """Positions of the qubits of each chain of the candidates with these numbers."""
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
    # Positions and couplers by table: hundreds of millions of searches would take minutes. Label
    # -1, a site that the tile lacks, finds the last entry, which stays -1.
    position = np.full(graph.num_sites + 1, -1, dtype=np.int32)
    position[graph.qubits] = np.arange(N, dtype=np.int32)
    places = position[tile.places]
    coupled = np.zeros((N, N), dtype=bool)
    u, v = graph.coupler_ends.T
    coupled[u, v] = coupled[v, u] = True
    largest = max(len(shape.qubits) for shape in shapes)
    enough = ENOUGH_PER_QUBIT * N
    qubits, chain, total = [], [], 0
    for turn in range(MAX_SYMMETRIES):
        for shape in shapes:
            # The first turn takes the shapes as they are.
            relabel = tile.symmetry(rng) if turn else np.arange(tile.graph.num_sites)
            working = _working(shape, places[:, relabel[shape.qubits]], coupled)
            qubits.append(_padded(working, largest, N))
            chain.append(_padded(np.broadcast_to(shape.chain, working.shape), largest, -1))
            total += len(working)
        if total >= enough:
            break
    # The last turn overshoots: drop candidates at random, so that no shape is preferred.
    keep = np.sort(rng.permutation(total)[:enough])
    return Candidates(np.concatenate(qubits)[keep], np.concatenate(chain).astype(np.int16)[keep])


def _working(shape: Shape, at: NDArray[np.int32], coupled: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The rows of `at` where all that the shape needs is alive.

    Every coupler inside a chain is needed (a chain that is a tree falls apart without one), of
    those between two chains one.

    Args:
        shape: The shape.
        at: Positions of its qubits at each place, shape (places, size); -1 for a dead qubit.
        coupled: Whether a coupler joins two positions, shape (N, N).
    """
    # Qubits: every one must be alive.
    at = at[(at >= 0).all(1)]
    # Couplers inside chains: every one must be alive.
    a, b = shape.pairs
    first, second = shape.chain[a], shape.chain[b]
    inside = first == second
    at = at[coupled[at[:, a[inside]], at[:, b[inside]]].all(1)]
    # Couplers between chains: sorted by their pair of chains, so that those of a pair are
    # neighbouring columns of `alive`; each run of columns must have one that is alive.
    a, b, first, second = a[~inside], b[~inside], first[~inside], second[~inside]
    pair = np.minimum(first, second) * len(shape.qubits) + np.maximum(first, second)
    order = np.argsort(pair, kind="stable")
    alive = coupled[at[:, a[order]], at[:, b[order]]]
    starts = np.flatnonzero(np.diff(pair[order], prepend=-1))
    return at[np.logical_or.reduceat(alive, starts, axis=1).all(1)]


def _padded(rows: NDArray[np.integer], width: int, value: int) -> NDArray[np.int32]:
    """`rows` widened to `width` columns, the new ones filled with `value`."""
    padded = np.full((len(rows), width), value, dtype=np.int32)
    padded[:, : rows.shape[1]] = rows
    return padded
