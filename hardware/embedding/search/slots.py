"""Slots of a pattern: from shapes on a tile, in windows of free qubits, or one by one."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qattn.hardware.embedding.pattern import Pattern
from qattn.hardware.embedding.search.candidates import find_candidates
from qattn.hardware.embedding.search.disjoint_sets import SetPacking
from qattn.hardware.embedding.search.shapes import (
    Tile,
    find_embedding,
    find_shapes,
    number_of_runs,
)
from qattn.hardware.embedding.uniform_chains import Chains
from qattn.hardware.embedding.working_graph import WorkingGraph

ROUNDS_PER_SLOT = 40
MAX_ROUNDS = 10_000
"""Limits of the search that follows the greedy choice; 6,000 rounds take about 20 s on a Z12."""


def slots_from_tile(
    graph: WorkingGraph, pattern: Pattern, neighbours: NDArray[np.int32], seed: int
) -> list[Chains]:
    """Slots from shapes on a tile, and more from windows of the qubits that are left.

    Args:
        graph: The working graph.
        pattern: What a slot couples.
        neighbours: As :func:`neighbours_of` gives them.
        seed: Fixes the result.
    """
    rng = np.random.default_rng(seed)
    tile = Tile.of(graph, pattern)
    shapes = find_shapes(tile.graph, pattern, seed=int(rng.integers(2**31)))
    slots: list[Chains] = []
    if shapes:
        candidates = find_candidates(graph, tile, shapes, rng)
        chooser = SetPacking(
            candidates.qubits, len(graph.qubits), neighbours, int(rng.integers(2**31))
        )
        slots = candidates.chains(chooser.solve(ROUNDS_PER_SLOT, MAX_ROUNDS))
    # The longest chain of any shape; None where the tile has no shape.
    longest = max((int(np.bincount(shape.chain).max()) for shape in shapes), default=None)
    tries = number_of_runs(pattern) // 2
    return slots + slots_from_windows(graph, tile, pattern, slots, longest, rng, tries)


def slots_from_windows(
    graph: WorkingGraph,
    tile: Tile,
    pattern: Pattern,
    slots: list[Chains],
    longest: int | None,
    rng: np.random.Generator,
    failures_left: int,
) -> list[Chains]:
    """More slots among the qubits that no slot uses, where a window has enough of them.

    Slots of long chains are no gain: chains may have as many qubits as `longest` or two,
    whichever is more; None means no limit. After `failures_left` failures the search ends.
    """
    free = np.zeros(len(graph.qubits), dtype=bool)
    free[free_qubits(graph, slots)] = True
    u, v = graph.coupler_ends.T
    windows = graph.position_of_qubit(tile.places)
    more: list[Chains] = []
    fewest_qubits = pattern.fewest_qubits(pattern.num_spins)
    fewest_couplers = len(pattern.all_pairs)
    # Windows in descending order of their free qubits.
    count = np.where(windows >= 0, free[windows], False).sum(1)
    for window in windows[np.argsort(-count, kind="stable")]:
        while failures_left:
            # Free qubits of the window, and the couplers between them.
            in_window = np.zeros(len(free), dtype=bool)
            in_window[window[window >= 0]] = True
            in_window &= free
            inside = in_window[u] & in_window[v]
            if in_window.sum() < fewest_qubits or inside.sum() < fewest_couplers:
                break
            edges = list(zip(u[inside].tolist(), v[inside].tolist(), strict=True))
            chains = find_embedding(pattern, edges, int(rng.integers(2**31)))
            if chains is None or (longest and max(map(len, chains)) > max(longest, 2)):
                failures_left -= 1
                break
            more.append(chains)
            free[[q for chain in chains for q in chain]] = False
    return more


def slots_one_by_one(graph: WorkingGraph, num_spins: int) -> list[Chains]:
    """Cliques found by busclique one after the other, each in what the earlier ones leave."""
    slots: list[Chains] = []
    while True:
        rest = graph.to_networkx()
        rest.remove_nodes_from(graph.qubits[[q for c in slots for chain in c for q in chain]])
        clique = busclique(rest, num_spins)
        if not clique:
            return slots
        slots.append([graph.position_of_qubit(chain).tolist() for chain in clique])


def busclique(rest: Any, num_spins: int | None) -> list[list[int]]:
    """Chains of a clique of busclique, empty if there is none; None means the largest clique."""
    from minorminer.busclique import busgraph_cache

    if not rest.number_of_edges():
        return [] if num_spins else [[q] for q in list(rest)[:1]]
    cache = busgraph_cache(rest)
    clique = cache.find_clique_embedding(num_spins) if num_spins else cache.largest_clique()
    return [sorted(chain) for chain in clique.values()]


def neighbours_of(graph: WorkingGraph) -> NDArray[np.int32]:
    """Positions of the qubits coupled to each, shape (N, largest degree), -1 after the last."""
    # Every coupler in both directions, sorted by its first end.
    ends = np.concatenate([graph.coupler_ends, graph.coupler_ends[:, ::-1]])
    ends = ends[np.lexsort(ends.T[::-1])]
    N = len(graph.qubits)
    # Qubit q's couplers are the rows first[q] to first[q + 1]: the column is the offset in them.
    first = np.searchsorted(ends[:, 0], np.arange(N + 1))
    table = np.full((N, int(np.diff(first).max(initial=0))), -1, dtype=np.int32)
    table[ends[:, 0], np.arange(len(ends)) - first[ends[:, 0]]] = ends[:, 1]
    return table


def free_qubits(graph: WorkingGraph, slots: list[Chains]) -> NDArray[np.int64]:
    """Positions of the qubits in no chain."""
    used = np.array([q for slot in slots for chain in slot for q in chain], dtype=np.int64)
    return np.setdiff1d(np.arange(len(graph.qubits)), used)
