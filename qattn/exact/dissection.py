r"""Elimination orders by nested dissection, for any sparse graph and without coordinates.

A *separator* is a set of vertices without which a graph falls apart. The parts are eliminated
before it, each by the same rule: elimination trees are low, as parts do not wait for each other,
and scopes hold vertices of few separators (George, SIAM J. Numer. Anal. 10, 345 (1973)).

Separators are smallest vertex cuts between the two ends of the graph along some line (*inertial
flow*, Schild and Sommer, SEA 2015). Lines are differences of distances to a few landmarks, vertices
far from each other: on a lattice, these are its coordinates and its diagonals. The separator that
is taken has the least

.. math:: |S| \Big(\frac{n^2}{4 |A| |B|}\Big)^{3/2},

A and B being the parts and n the number of vertices.
"""

import random
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import (
    breadth_first_order,
    connected_components,
    maximum_flow,
    shortest_path,
)

from qattn.exact.elimination import min_fill, neighbour_sets

LANDMARKS = 5
"""Vertices from which distances are measured."""

LINES = 4
"""Lines along which cuts are looked for: those with the smallest cuts in their middle."""

ENDS = (0.3, 0.4, 0.46)
"""Shares of the vertices that each end of a line has."""

LEAF = 6
"""Vertices of a part that min-fill finishes."""

Vertices = NDArray[np.int64]
Chosen = NDArray[np.bool_]


def nested_dissection(adjacency: NDArray[np.bool_]) -> list[int]:
    """An elimination order, first eliminated first, the same for the same graph.

    Args:
        adjacency: Which pairs are coupled, symmetric, shape (n, n).

    The centre of a star goes last:

    >>> star = np.zeros((9, 9), dtype=bool)
    >>> star[4] = star[:, 4] = np.arange(9) != 4
    >>> nested_dissection(star)[-1]
    4
    """
    graph = csr_array(adjacency.astype(np.int32))
    order: list[int] = []
    # Separators are met from the last eliminated to the first: the order is built in reverse.
    waiting = [np.arange(len(adjacency))]
    while waiting:
        part = waiting.pop()
        within = graph[part][:, part]
        count, component = connected_components(within, directed=False)
        if count > 1:
            waiting += [part[component == c] for c in range(count)]
        elif len(part) <= LEAF:
            sets = neighbour_sets(len(part), within.toarray().astype(bool).tobytes())
            order += part[min_fill(sets, random.Random(0))[::-1]].tolist()
        else:
            separator = _separator(within)
            order += part[separator].tolist()
            waiting.append(part[~separator])
    return order[::-1]


def _separator(graph: csr_array) -> Chosen:
    """Vertices that separate a connected graph; all of them where there are no two parts."""
    best, least = np.ones(graph.shape[0], dtype=bool), np.inf
    for line in _lines(graph):
        for share in ENDS:
            size = max(1, int(share * len(line)))
            for separator, part in _cuts(graph, line[:size], line[-size:]):
                s, a = int(separator.sum()), int(part.sum())
                b = len(line) - a - s
                cost = s * (len(line) ** 2 / (4 * a * b)) ** 1.5 if a and b else np.inf
                if cost < least:
                    best, least = separator, cost
    return best


def _lines(graph: csr_array) -> list[Vertices]:
    """The vertices sorted along the most promising lines."""
    distances: list[NDArray[np.float64]] = []
    nearest = shortest_path(graph, unweighted=True, indices=0)
    for k in range(LANDMARKS):
        distance = shortest_path(graph, unweighted=True, indices=int(nearest.argmax()))
        distances.append(distance)
        nearest = np.minimum(nearest, distance) if k else distance
    along = distances + [one - other for one, other in combinations(distances, 2)]
    row, column = graph.nonzero()
    found = []
    for number, values in enumerate(along):
        line = values.argsort(kind="stable")
        low = np.zeros(len(line), dtype=bool)
        low[line[: len(line) // 2]] = True
        # Either end of the edges from the lower to the upper half would be a separator.
        across = low[row] & ~low[column]
        cut = min(len(np.unique(row[across])), len(np.unique(column[across])))
        found.append((cut, number, line))
    return [line for _, _, line in sorted(found, key=lambda f: f[:2])[:LINES]]


def _cuts(graph: csr_array, start: Vertices, end: Vertices) -> list[tuple[Chosen, Chosen]]:
    """Smallest vertex cuts between two sets, next to either: (separator, part of the start)."""
    n = graph.shape[0]
    v, endless = np.arange(n), n + 1
    row, column = (ends.astype(np.int64) for ends in graph.nonzero())
    # Vertex v becomes an arc from 2v to 2v + 1 that lets one unit through; edges take any flow.
    tail = [2 * v, 2 * row + 1, np.full(len(start), 2 * n), 2 * end + 1]
    head = [2 * v + 1, 2 * column, 2 * start, np.full(len(end), 2 * n + 1)]
    capacity = np.full(n + len(row) + len(start) + len(end), endless, dtype=np.int32)
    capacity[:n] = 1
    arcs = np.concatenate(tail), np.concatenate(head)
    network = csr_array((capacity, arcs), shape=(2 * n + 2, 2 * n + 2))
    left = csr_array(network - maximum_flow(network, 2 * n, 2 * n + 1).flow > 0)
    # Vertices whose arc begins inside what the start reaches, or ends inside what reaches the end.
    into, out = _reached(left, 2 * n)
    back_into, back_out = _reached(csr_array(left.T), 2 * n + 1)
    return [(into & ~out, out), (back_out & ~back_into, ~back_out)]


def _reached(arcs: csr_array, root: int) -> tuple[Chosen, Chosen]:
    """Whether flow that is left leads from the root to the tail and the head of each vertex."""
    reached = np.zeros(arcs.shape[0], dtype=bool)
    reached[breadth_first_order(arcs, root, return_predecessors=False)] = True
    return reached[:-2:2], reached[1:-2:2]
