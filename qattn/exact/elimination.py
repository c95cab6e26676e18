r"""Elimination orders of sparse graphs, and the width of the tables that they lead to.

Eliminating a vertex joins the neighbours that it has left into a clique, its *scope*; the largest
scope is the width of the order, and the smallest width of any order the treewidth of the graph.
Finding it is NP-hard. *Min-fill* eliminates the vertex whose neighbours lack the fewest edges
(Gogate and Dechter, arXiv 1207.4109); ties are broken at random, so several runs give several
orders. A lattice may be narrower in its natural order, row by row.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Bool
from torch import Tensor

MAX_WIDTH = 25
"""Largest width that is summed exactly: tables of 2^25 numbers, 256 MiB each."""

TRIES = 8
"""Runs of min-fill with different tie-breaks."""

NARROW = 8
"""Width up to which no better order is looked for."""

HOPELESS = 2 * MAX_WIDTH
"""Width above which none is looked for either."""


@dataclass(frozen=True)
class Elimination:
    """An elimination order of a graph.

    Attributes:
        order: The vertices, first eliminated first.
        scopes: Neighbours that each has left when it is eliminated, in the order of elimination.
    """

    order: tuple[int, ...]
    scopes: tuple[tuple[int, ...], ...]

    @property
    def width(self) -> int:
        """Size of the largest scope: at least the treewidth of the graph."""
        return max(map(len, self.scopes), default=0)

    @cached_property
    def num_entries(self) -> int:
        """Numbers in the tables of all scopes."""
        return sum(1 << len(scope) for scope in self.scopes)


def elimination_of(adjacency: Bool[Tensor, "n n"]) -> Elimination:
    """The best order found, the same for the same graph: natural, or one of several of min-fill.

    Args:
        adjacency: Which pairs are coupled, symmetric.

    Raises:
        ValueError: Every order that was tried is wider than :data:`MAX_WIDTH`.

    A ring of five has treewidth 2:

    >>> import torch
    >>> ring = torch.eye(5).roll(1, 0) + torch.eye(5).roll(-1, 0) > 0
    >>> elimination_of(ring).width
    2
    """
    n = len(adjacency)
    found = _best(n, adjacency.cpu().numpy().tobytes())
    if isinstance(found, int) or found.width > MAX_WIDTH:
        width = (
            f"treewidth at least {found}"
            if isinstance(found, int)
            else f"width {found.width} in the best elimination order found"
        )
        raise ValueError(
            f"Argument `batch` must have couplings of treewidth up to {MAX_WIDTH}, but the graph "
            f'of its {n} spins has {width}: draw reads with the backend "gibbs" or "neal", or '
            f"remove couplings."
        )
    return found


@lru_cache(maxsize=1024)
def _best(n: int, adjacency: bytes) -> Elimination | int:
    """The best order, or a lower bound of the treewidth that is above the limit."""
    graph = neighbour_sets(n, adjacency)
    bound = _degeneracy(graph)
    if bound > MAX_WIDTH:
        return bound
    best = in_order(graph, range(n))
    for seed in range(TRIES):
        best = min(best, in_order(graph, min_fill(graph, random.Random(seed))), key=_cost)
        if best.width <= NARROW or best.width > HOPELESS:
            break
    return best


def neighbour_sets(n: int, adjacency: bytes) -> list[int]:
    """The neighbours of each vertex as the bits of a number, from a matrix of booleans."""
    matrix = np.frombuffer(adjacency, dtype=bool).reshape(n, n) & ~np.eye(n, dtype=bool)
    rows = np.packbits(matrix, axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in rows]


def _cost(elimination: Elimination) -> tuple[bool, int]:
    return elimination.width > MAX_WIDTH, elimination.num_entries


def _degeneracy(graph: list[int]) -> int:
    """The largest degree met when vertices of least degree are removed: a bound from below."""
    degree = {v: row.bit_count() for v, row in enumerate(graph)}
    largest = 0
    while degree:
        v = min(degree, key=degree.__getitem__)
        largest = max(largest, degree.pop(v))
        for u in _members(graph[v]):
            if u in degree:
                degree[u] -= 1
    return largest


def in_order(graph: list[int], order: Sequence[int]) -> Elimination:
    """Symbolic elimination in a given order: the scope of a vertex joins those of its children.

    Args:
        graph: Neighbours of each vertex as bits (:func:`neighbour_sets`).
        order: The vertices, first eliminated first.
    """
    place = {v: position for position, v in enumerate(order)}
    later = [0] * len(graph)  # of each position the later ones in its scope
    for position, v in enumerate(order):
        coupled = sum(1 << place[u] for u in _members(graph[v]) if place[u] > position)
        later[position] = (later[position] | coupled) & ~(1 << position)
        if later[position]:
            parent = (later[position] & -later[position]).bit_length() - 1
            later[parent] |= later[position]
    return Elimination(tuple(order), tuple(tuple(order[p] for p in _members(s)) for s in later))


def min_fill(graph: list[int], ties: random.Random) -> list[int]:
    """The order that eliminates the vertex whose neighbours lack the fewest edges."""
    graph = list(graph)
    order: list[int] = []
    fill = {v: _missing(graph, v) for v in range(len(graph))}
    while fill:
        least = min(fill.values())
        v = ties.choice([u for u, missing in fill.items() if missing == least])
        del fill[v]
        order.append(v)
        # The neighbours become a clique without v; only vertices next to a new edge change.
        changed = graph[v]
        for u in _members(graph[v]):
            graph[u] = (graph[u] | graph[v]) & ~(1 << u | 1 << v)
            changed |= graph[u]
        fill.update({u: _missing(graph, u) for u in _members(changed)})
    return order


def _missing(graph: list[int], v: int) -> int:
    """Edges that the neighbours of v lack to be a clique."""
    neighbours = _members(graph[v])
    edges = sum((graph[u] & graph[v]).bit_count() for u in neighbours)
    return (len(neighbours) * (len(neighbours) - 1) - edges) // 2


def _members(bits: int) -> list[int]:
    """Positions of the bits that are set, ascending."""
    members = []
    while bits:
        lowest = bits & -bits
        members.append(lowest.bit_length() - 1)
        bits ^= lowest
    return members
