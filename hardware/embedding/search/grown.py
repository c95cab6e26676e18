"""Slots of long bands: one after the other, each beside those before it."""

import numpy as np
from numpy.typing import NDArray

from qattn.hardware.embedding.pattern import Pattern
from qattn.hardware.embedding.search.shapes import find_embedding
from qattn.hardware.embedding.uniform_chains import Chains
from qattn.hardware.embedding.working_graph import WorkingGraph

SMALLEST = 25
"""Spins from which on a packing is grown: shapes on a tile leave gaps as large as they are."""

SURPLUS = (1.1, 1.4, 2.0)
"""Qubits that are offered to a slot, one after the other, relative to what slots took so far."""

FIRST_GUESS = 1.15
"""What the first slot takes, relative to its spins."""

MEMORY = 0.9
"""Weight of the earlier slots in what slots took so far."""

FEWEST_RUNS = 20
WORK = 500_000
"""Runs of minorminer on a whole processor in which nothing was found yet: as many as make up this
work, a run's being spins times qubits, or the fewest. On small processors they take seconds."""


def slots_grown(graph: WorkingGraph, pattern: Pattern, seed: int) -> list[Chains]:
    """Slots among the free qubits nearest to one corner, and so on in stripes over the processor.

    minorminer fits a band, unlike a clique, to almost any region, so that few qubits are left. A
    place at which it does not is given up, and its qubits remain for its neighbours.

    Args:
        graph: The working graph.
        pattern: What a slot couples.
        seed: Fixes the result.
    """
    rng = np.random.default_rng(seed)
    at = _positions(graph)
    slots = _grow(graph, at, pattern, pattern.num_spins * FIRST_GUESS, rng)
    if not slots and len(at) >= pattern.num_spins:
        # The parts were too small. A slot in the whole processor shows how much slots take.
        number = max(FEWEST_RUNS, WORK // (pattern.num_spins * len(at)))
        runs = (_find(graph.coupler_ends, pattern, rng) for _ in range(number))
        chains = next(filter(None, runs), None)
        if chains is not None:
            usual = float(sum(map(len, chains)))
            slots = _grow(graph, at, pattern, usual, rng) or [chains]
    return slots


def _grow(
    graph: WorkingGraph,
    at: NDArray[np.float64],
    pattern: Pattern,
    usual: float,
    rng: np.random.Generator,
) -> list[Chains]:
    """Slots found in parts of the processor, where they take about `usual` qubits."""
    n = pattern.num_spins
    ends = graph.coupler_ends
    free = np.ones(len(at), dtype=bool)
    given_up = np.zeros(len(at), dtype=bool)
    order = _in_stripes(at, usual)
    slots: list[Chains] = []
    while free.sum() >= n and (free & ~given_up).any():
        first = order[(free & ~given_up)[order]][0]
        # The free qubits in ascending distance from it, in the larger of the two coordinates.
        available = np.flatnonzero(free)
        distance = np.abs(at[available] - at[first]).max(1)
        nearest = available[np.argsort(distance, kind="stable")]
        for surplus in SURPLUS:
            window = np.zeros(len(at), dtype=bool)
            window[nearest[: int(usual * surplus)]] = True
            chains = _find(ends[window[ends].all(1)], pattern, rng)
            if chains is not None:
                used = [q for chain in chains for q in chain]
                free[used] = False
                usual = MEMORY * usual + (1 - MEMORY) * len(used)
                slots.append(chains)
                break
        else:
            given_up[nearest[: max(1, int(usual / 4))]] = True
            given_up[first] = True
    return slots


def _find(
    couplers: NDArray[np.integer], pattern: Pattern, rng: np.random.Generator
) -> Chains | None:
    """One run of minorminer, on these couplers, shape (M, 2)."""
    return find_embedding(pattern, couplers.tolist(), int(rng.integers(2**31)))


def _positions(graph: WorkingGraph) -> NDArray[np.float64]:
    """Where the middle of each qubit lies on the chip, in a unit square, shape (N, 2)."""
    import dwave.graphs

    layout = getattr(dwave.graphs, f"{graph.topology}_layout")(graph.to_networkx())
    at = np.array([layout[q] for q in graph.qubits.tolist()])
    low, high = at.min(0), at.max(0)
    unit: NDArray[np.float64] = (at - low) / np.where(high > low, high - low, 1.0)
    return unit


def _in_stripes(at: NDArray[np.float64], num_qubits: float) -> NDArray[np.int64]:
    """The qubits stripe by stripe, to and fro; a stripe is as high as a square of `num_qubits`."""
    stripes = max(1, round((len(at) / num_qubits) ** 0.5))
    stripe = np.minimum((at[:, 1] * stripes).astype(np.int64), stripes - 1)
    return np.lexsort((np.where(stripe % 2, -at[:, 0], at[:, 0]), stripe))
