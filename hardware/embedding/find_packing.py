"""As many disjoint cliques as a working graph holds, made once and kept on disk.

Beside the search of this module, minorminer's ``find_sublattice_embeddings`` in the best of some
ten ways to use it (slots; in brackets: with chains no longer than ours, which are 2 long, 3 for
n = 17 and for n = 13 on P16). Defects: 5% of the qubits and 1% of the couplers.

===  =======  =============  =============  =============  =============
..   defects  n = 5          n = 9          n = 13         n = 17
===  =======  =============  =============  =============  =============
Z12  none     713: 624 (620) 265: 278 (271) 162: 144 (136) 100: 92 (92)
Z12  some     659: 592 (589) 247: 251 (241) 134: 130 (110) 76: 83 (82)
Z6   none     174: 157 (155) 61: 68 (68)    42: 36 (34)    25: 22 (21)
Z6   some     161: 148 (148) 59: 60 (60)    36: 32 (27)    17: 20 (19)
P16  none     875: 765 (745) 330: 291 (262) 161: 136 (136) 97: 92 (82)
P16  some     814: 712 (692) 283: 262 (231) 123: 123 (119) 63: 74 (68)
===  =======  =============  =============  =============  =============

With chains as short it holds up to a third more; it is behind by 8% to 12% for n = 17 with defects
and for n = 9 on a perfect Z6. minorminer takes between an eighth and all of its time
(``python benchmarks/packing.py`` prints every way).
"""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qattn.hardware.embedding.cliques.candidates import find_candidates
from qattn.hardware.embedding.cliques.disjoint_sets import SetPacking
from qattn.hardware.embedding.cliques.shapes import Tile, find_clique, find_shapes, number_of_runs
from qattn.hardware.embedding.packing import Packing
from qattn.hardware.embedding.packing_files import (
    load_packing,
    packing_file,
    packings_of_kin,
    save_packing,
)
from qattn.hardware.embedding.uniform_chains import Chains, lengthen
from qattn.hardware.embedding.working_graph import WorkingGraph

LARGEST_SHAPE = 33
"""Largest n for which shapes are found on a tile; larger cliques are found one by one."""

ROUNDS_PER_SLOT = 40
MAX_ROUNDS = 10_000
"""Limits of the search that follows the greedy choice; 6,000 rounds take about 20 s on a Z12."""

REPAIRABLE = 0.1
"""Fraction of a packing's slots that may be lost, so that it is repaired and not made anew."""

EXTRA_TRIES = 20
"""Windows of free qubits that are tried in a repair besides two for each lost slot."""

logger = logging.getLogger(__name__)


def pack_cliques(graph: WorkingGraph, num_spins: int, *, seed: int = 0) -> Packing:
    """Disjoint embeddings of the complete graph K_n: many, with short chains.

    Shapes found by minorminer on a small tile are put at every place of the processor, under
    symmetries of the topology; those that dead qubits and couplers leave intact are candidates,
    of which as many disjoint ones as possible are chosen. What is left over is searched window by
    window, and the qubits that are still free lengthen short chains, because chains of one length
    see one temperature (:attr:`Packing.uniform`). Takes up to a minute:
    :func:`cached_packing` does it once.

    The largest clique of either topology is K_4, so n > 4 spins take at least 2n - 4 qubits, and
    N qubits hold at most floor(N / (2n - 4)) slots.

    Args:
        graph: The working graph of a processor.
        num_spins: Spins n of the complete graph, at least 1.
        seed: Fixes the result.

    Returns:
        The packing, slots with chains of one length first.

    Raises:
        ValueError: `num_spins` is less than 1, or no clique of this size is found.
    """
    if num_spins < 1:
        raise ValueError(f"Argument `num_spins` must be at least 1, but is {num_spins}.")
    if num_spins == 1:
        return Packing(graph, graph.qubits[:, None, None])
    slots: list[Chains] = []
    neighbours = _neighbours(graph)
    if num_spins <= LARGEST_SHAPE and len(graph.couplers):
        slots = _from_tile(graph, num_spins, neighbours, seed)
    if not slots:
        slots = _one_by_one(graph, num_spins)
    if not slots:
        raise ValueError(_too_large(graph, num_spins))
    packing = _finished(graph, slots, neighbours)
    logger.info("%r: %s", graph, packing.describe())
    return packing


def repair_packing(packing: Packing, graph: WorkingGraph, *, seed: int = 0) -> Packing | None:
    """The packing on another working graph of the processor: what is left of it, and new slots.

    Qubits that died leave their chains, and slots that are no embedding any more are dropped; the
    qubits that are free are searched for new slots, and lengthen chains. Takes seconds.

    Args:
        packing: Slots of the graph as it was.
        graph: The working graph as it is now.
        seed: Fixes the result.

    Returns:
        The packing; None where more than :data:`REPAIRABLE` of its slots are lost, so that a new
        search is worth its time.
    """
    kept = _intact(packing, graph)
    if not kept or len(kept) < (1 - REPAIRABLE) * packing.num_slots:
        return None
    lost = packing.num_slots - len(kept)
    num_spins = packing.num_spins
    if 1 < num_spins <= LARGEST_SHAPE:
        tile = Tile.of(graph, num_spins)
        longest = packing.chains.shape[2]
        # Free qubits that no window search turned into a slot before gain little: as many tries
        # as slots were lost, and some.
        tries = min(number_of_runs(num_spins) // 2, EXTRA_TRIES + 2 * lost)
        rng = np.random.default_rng(seed)
        kept = kept + _from_windows(graph, tile, num_spins, kept, longest, rng, tries)
    repaired = _finished(graph, kept, _neighbours(graph))
    logger.info(
        "%r: the packing of graph %s was repaired, %d of its %d slots were lost: %s",
        graph,
        packing.graph.graph_id,
        lost,
        packing.num_slots,
        repaired.describe(),
    )
    return repaired


def cached_packing(graph: WorkingGraph, num_spins: int, *, folder: Path | None = None) -> Packing:
    """The packing of :func:`pack_cliques` with seed 0, read from disk if it was made before.

    A file is found by the graph's id, the digest of its qubits and couplers, and n; it is checked
    in full when read. One that is damaged or belongs to another graph is made anew. Where the
    folder has a packing of a graph that differs by a few qubits and couplers, as when a processor
    lost some and kept its name, that one is repaired instead (:func:`repair_packing`).

    Args:
        graph: The working graph of a processor.
        num_spins: Spins n of the complete graph.
        folder: Where packings are kept; None means ``packings`` in the user's cache folder.

    Raises:
        ValueError: As :func:`pack_cliques`.

    Warns:
        UserWarning: A file was unusable, or the packing cannot be written.
    """
    file = packing_file(graph, num_spins, folder)
    if file.is_file():
        try:
            return load_packing(file, graph, num_spins)
        except ValueError as error:
            warnings.warn(f"{error} It is made anew.", stacklevel=2)
    packing = _repaired_from(folder, graph, num_spins)
    if packing is None:
        logger.info("Packing cliques of %d spins onto %r, up to two minutes.", num_spins, graph)
        packing = pack_cliques(graph, num_spins)
    try:
        save_packing(packing, file)
    except OSError as error:
        warnings.warn(
            f"The packing cannot be kept in {file.parent} ({error}) and will be made again next "
            f"time: pass another `folder`.",
            stacklevel=2,
        )
    return packing


def _repaired_from(folder: Path | None, graph: WorkingGraph, num_spins: int) -> Packing | None:
    """The packing of the most similar graph, repaired; None if none is similar."""
    packings = packings_of_kin(graph, num_spins, folder)
    if not packings:
        return None
    # That which loses the fewest slots to dead qubits; couplers are looked at in the repair.
    return repair_packing(max(packings, key=lambda kin: len(_alive(kin, graph))), graph)


def _alive(packing: Packing, graph: WorkingGraph) -> NDArray[np.int64]:
    """Slots whose chains all have a qubit left in another graph."""
    return np.flatnonzero((graph.position_of_qubit(packing.chains) >= 0).any(-1).all(-1))


def _intact(packing: Packing, graph: WorkingGraph) -> list[Chains]:
    """The slots that are embeddings in another graph without their dead qubits, as positions."""
    old = packing.graph
    at = graph.position_of_qubit(packing.chains)
    # Slots that lost a qubit, or a coupler between two of their qubits: these need a check.
    touched = np.array(((at < 0) & (packing.chains >= 0)).any((1, 2)))
    slots = packing.chains_of_coupler // packing.num_spins
    dead = (graph.position_of_coupler(*old.couplers.T) < 0) & (slots[:, 0] == slots[:, 1])
    touched[slots[dead & (slots[:, 0] >= 0), 0]] = True
    intact: list[Chains] = []
    for slot in _alive(packing, graph):
        chains = [row[row >= 0].tolist() for row in at[slot]]
        if touched[slot]:
            try:
                Packing(graph, _labels(graph, [chains]))
            except ValueError:
                continue
        intact.append(chains)
    return intact


def _finished(graph: WorkingGraph, slots: list[Chains], neighbours: NDArray[np.int32]) -> Packing:
    """The packing of these slots, their chains lengthened by free qubits; uniform ones first."""
    lists = [row[row >= 0].tolist() for row in neighbours]
    slots = lengthen(slots, lists, set(_free(graph, slots).tolist()))
    # Slots with chains of one length first, then in the order of their first qubits.
    slots.sort(key=lambda slot: (len(set(map(len, slot))) > 1, min(map(min, slot))))
    return Packing(graph, _labels(graph, slots))


def _from_tile(
    graph: WorkingGraph, num_spins: int, neighbours: NDArray[np.int32], seed: int
) -> list[Chains]:
    """Slots from shapes on a tile, and more from windows of the qubits that are left."""
    rng = np.random.default_rng(seed)
    tile = Tile.of(graph, num_spins)
    shapes = find_shapes(tile.graph, num_spins, seed=int(rng.integers(2**31)))
    slots: list[Chains] = []
    if shapes:
        candidates = find_candidates(graph, tile, shapes, rng)
        chooser = SetPacking(
            candidates.qubits, len(graph.qubits), neighbours, int(rng.integers(2**31))
        )
        slots = candidates.chains(chooser.solve(ROUNDS_PER_SLOT, MAX_ROUNDS))
    # The longest chain of any shape; None where the tile has no shape.
    longest = max((int(np.bincount(shape.chain).max()) for shape in shapes), default=None)
    tries = number_of_runs(num_spins) // 2
    return slots + _from_windows(graph, tile, num_spins, slots, longest, rng, tries)


def _from_windows(
    graph: WorkingGraph,
    tile: Tile,
    num_spins: int,
    slots: list[Chains],
    longest: int | None,
    rng: np.random.Generator,
    failures_left: int,
) -> list[Chains]:
    """Cliques among the qubits that no slot uses, where a window has enough of them.

    Slots of long chains are no gain: chains may have as many qubits as `longest` or two,
    whichever is more; None means no limit. After `failures_left` failures the search ends.
    """
    free = np.zeros(len(graph.qubits), dtype=bool)
    free[_free(graph, slots)] = True
    u, v = graph.coupler_ends.T
    windows = graph.position_of_qubit(tile.places)
    more: list[Chains] = []
    fewest = 2 * num_spins - 4 if num_spins > 4 else num_spins
    # Windows in descending order of their free qubits.
    count = np.where(windows >= 0, free[windows], False).sum(1)
    for window in windows[np.argsort(-count, kind="stable")]:
        while failures_left:
            # Free qubits of the window, and the couplers between them.
            in_window = np.zeros(len(free), dtype=bool)
            in_window[window[window >= 0]] = True
            in_window &= free
            inside = in_window[u] & in_window[v]
            if in_window.sum() < fewest or inside.sum() < num_spins * (num_spins - 1) // 2:
                break
            edges = list(zip(u[inside].tolist(), v[inside].tolist(), strict=True))
            chains = find_clique(num_spins, edges, int(rng.integers(2**31)))
            if chains is None or (longest and max(map(len, chains)) > max(longest, 2)):
                failures_left -= 1
                break
            more.append(chains)
            free[[q for chain in chains for q in chain]] = False
    return more


def _one_by_one(graph: WorkingGraph, num_spins: int) -> list[Chains]:
    """Cliques found by busclique one after the other, each in what the earlier ones leave."""
    slots: list[Chains] = []
    while True:
        rest = graph.to_networkx()
        rest.remove_nodes_from(graph.qubits[[q for c in slots for chain in c for q in chain]])
        clique = _busclique(rest, num_spins)
        if not clique:
            return slots
        slots.append([graph.position_of_qubit(chain).tolist() for chain in clique])


def _busclique(rest: Any, num_spins: int | None) -> list[list[int]]:
    """Chains of a clique of busclique, empty if there is none; None means the largest clique."""
    from minorminer.busclique import busgraph_cache

    if not rest.number_of_edges():
        return [] if num_spins else [[q] for q in list(rest)[:1]]
    cache = busgraph_cache(rest)
    clique = cache.find_clique_embedding(num_spins) if num_spins else cache.largest_clique()
    return [sorted(chain) for chain in clique.values()]


def _too_large(graph: WorkingGraph, num_spins: int) -> str:
    largest = len(_busclique(graph.to_networkx(), None))
    return (
        f"Argument `num_spins` must be the size of a clique that fits, but none of {num_spins} "
        f"spins was found in {graph!r}; the largest clique found has {largest}: choose smaller "
        f"problems."
    )


def _neighbours(graph: WorkingGraph) -> NDArray[np.int32]:
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


def _free(graph: WorkingGraph, slots: list[Chains]) -> NDArray[np.int64]:
    """Positions of the qubits in no chain."""
    used = np.array([q for slot in slots for chain in slot for q in chain], dtype=np.int64)
    return np.setdiff1d(np.arange(len(graph.qubits)), used)


def _labels(graph: WorkingGraph, slots: list[Chains]) -> NDArray[np.int32]:
    """Labels of the chains' qubits as :class:`Packing` takes them, from their positions."""
    longest = max(len(chain) for slot in slots for chain in slot)
    labels = np.full((len(slots), len(slots[0]), longest), -1, dtype=np.int32)
    for slot, chains in enumerate(slots):
        for spin, chain in enumerate(chains):
            labels[slot, spin, : len(chain)] = graph.qubits[sorted(chain)]
    return labels
