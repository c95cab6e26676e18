"""Packing problems by their own graph, where a clique for each would waste the processor.

A QPU's native problem needs one qubit a spin, and as a clique long chains. Copies of the graph in
the processor's, spin by qubit, are looked for one after the other by a subgraph solver (Glasgow's,
in minorminer); where there is none, minorminer's heuristic finds embeddings with chains.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qattn.field_encoding import ProgrammedBatch
from qattn.hardware.embedding.find_packing import LARGEST_SHAPE
from qattn.hardware.embedding.packing import Packing
from qattn.hardware.embedding.working_graph import WorkingGraph

if TYPE_CHECKING:
    import networkx

SECONDS = 10
"""Time limit of one search."""

DENSE = 0.5
"""Fraction of all pairs from which on problems are embedded as cliques."""

logger = logging.getLogger(__name__)


def own_pairs(programmed: ProgrammedBatch) -> NDArray[np.int64] | None:
    """Pairs of spins that any of the problems couples, shape (pairs, 2); None for cliques.

    Cliques, several problems to each, are right for what is small or dense; so they are for
    problems of different sizes.
    """
    n = int(programmed.sizes.max())
    if n <= LARGEST_SHAPE or (programmed.sizes[programmed.sizes > 0] != n).any():
        return None
    coupled = (programmed.J[:, :n, :n] != 0).any(0).numpy()
    pairs = np.argwhere(np.triu(coupled, 1))
    return pairs if len(pairs) < DENSE * n * (n - 1) / 2 else None


def pack_graph(
    graph: WorkingGraph, num_spins: int, pairs: NDArray[np.int64], *, seed: int = 0
) -> Packing:
    """Disjoint embeddings of a graph: copies with one qubit a spin, else such with chains.

    Args:
        graph: The working graph of a processor.
        num_spins: Vertices n of the graph.
        pairs: Its edges j < k, shape (pairs, 2).
        seed: Seed of minorminer's heuristic.

    Raises:
        ValueError: No embedding is found.
    """
    import networkx

    problem = networkx.Graph()
    problem.add_nodes_from(range(num_spins))
    problem.add_edges_from(pairs.tolist())
    rest = graph.to_networkx()
    slots = _all_of(_copy, problem, rest, seed) or _all_of(_with_chains, problem, rest, seed)
    if not slots:
        raise ValueError(
            f"Argument `pairs` must be those of a graph that fits, but no embedding of these "
            f"{num_spins} spins with {len(pairs)} couplings was found in {graph!r}: choose smaller "
            f"problems."
        )
    longest = max(len(chain) for slot in slots for chain in slot)
    chains = np.full((len(slots), num_spins, longest), -1, dtype=np.int32)
    for s, slot in enumerate(slots):
        for spin, chain in enumerate(slot):
            chains[s, spin, : len(chain)] = sorted(chain)
    packing = Packing(graph, chains, pairs)
    logger.info("%r: %s", graph, packing.describe())
    return packing


def _all_of(
    find: Callable[..., list[list[int]]],
    problem: "networkx.Graph",
    rest: "networkx.Graph",
    seed: int,
) -> list[list[list[int]]]:
    """Embeddings one after the other, each in what the earlier ones leave of the processor."""
    slots = []
    while len(rest) >= len(problem) and (slot := find(problem, rest, seed)):
        slots.append(slot)
        rest.remove_nodes_from([qubit for chain in slot for qubit in chain])
    return slots


def _copy(problem: "networkx.Graph", rest: "networkx.Graph", seed: int) -> list[list[int]]:
    """A copy with one qubit a spin; empty if none is found."""
    from minorminer.subgraph import find_subgraph

    found = find_subgraph(problem, rest, timeout=SECONDS)
    return [[found[spin]] for spin in range(len(problem))] if found else []


def _with_chains(problem: "networkx.Graph", rest: "networkx.Graph", seed: int) -> list[list[int]]:
    """An embedding with chains; empty if none is found."""
    from minorminer import find_embedding

    # Spins without couplings get a qubit afterwards.
    coupled = problem.edge_subgraph(problem.edges)
    found = find_embedding(coupled, rest, timeout=SECONDS, random_seed=seed)
    if not found:
        return []
    free = iter(sorted(set(rest) - {qubit for chain in found.values() for qubit in chain}))
    chains = [list(found[spin]) if spin in found else [next(free, -1)] for spin in problem]
    return [] if [-1] in chains else chains
