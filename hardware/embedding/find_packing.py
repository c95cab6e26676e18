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

import numpy as np
from numpy.typing import NDArray

from qattn.hardware.embedding.packing import Packing
from qattn.hardware.embedding.packing_files import (
    load_packing,
    packing_file,
    packings_of_kin,
    save_packing,
)
from qattn.hardware.embedding.pattern import Pattern
from qattn.hardware.embedding.search.grown import SMALLEST, slots_grown
from qattn.hardware.embedding.search.shapes import Tile, number_of_runs
from qattn.hardware.embedding.search.slots import (
    busclique,
    free_qubits,
    neighbours_of,
    slots_from_tile,
    slots_from_windows,
    slots_one_by_one,
)
from qattn.hardware.embedding.uniform_chains import Chains, lengthen
from qattn.hardware.embedding.working_graph import WorkingGraph

LARGEST_SHAPE = 33
"""Largest n for which shapes are found on a tile; larger cliques are found one by one."""

REPAIRABLE = 0.1
"""Fraction of a packing's slots that may be lost, so that it is repaired and not made anew."""

EXTRA_TRIES = 20
"""Windows of free qubits that are tried in a repair besides two for each lost slot."""

logger = logging.getLogger(__name__)


def pack_slots(graph: WorkingGraph, pattern: Pattern, *, seed: int = 0) -> Packing:
    """Disjoint embeddings of a pattern: many, with short chains.

    Shapes found by minorminer on a small tile are put at every place of the processor, under
    symmetries of the topology; those that dead qubits and couplers leave intact are candidates,
    of which as many disjoint ones as possible are chosen. What is left over is searched window by
    window. The qubits that are still free lengthen the short chains of cliques, because chains of
    one length see one temperature (:attr:`Packing.uniform`); a band's carrier is a long chain
    beside short ones. Long bands are grown one beside the other instead. Takes up to a minute:
    :func:`cached_packing` does it once.

    The largest clique of either topology is K_4, so that the n > 4 spins of a clique take at least
    2n - 4 qubits, and N qubits hold at most floor(N / (2n - 4)) cliques.

    Args:
        graph: The working graph of a processor.
        pattern: What a slot couples.
        seed: Fixes the result.

    Returns:
        The packing. Cliques with chains of one length come first; of bands, those of few qubits.

    Raises:
        ValueError: The pattern has no spin, or no embedding of it is found. The search is
            heuristic: where one exists all the same, another seed may find it.
    """
    n = pattern.num_spins
    if n < 1:
        raise ValueError(f"Argument `num_spins` must be at least 1, but is {n}.")
    if n == 1:
        return Packing(graph, graph.qubits[:, None, None])
    slots: list[Chains] = []
    neighbours = neighbours_of(graph)
    if _has_shapes(pattern) and len(graph.couplers):
        slots = slots_from_tile(graph, pattern, neighbours, seed)
    if not slots and pattern.width is not None:
        slots = slots_grown(graph, pattern, seed)
    if not slots:
        # busclique's cliques, which wide bands fit too.
        slots = slots_one_by_one(graph, n)
    if not slots:
        raise ValueError(_too_large(graph, pattern))
    packing = _finished(graph, slots, neighbours, pattern)
    logger.info("%r: %s", graph, packing.describe())
    return packing


def pack_cliques(graph: WorkingGraph, num_spins: int, *, seed: int = 0) -> Packing:
    """The packing of :func:`pack_slots` for the complete graph of `num_spins` spins."""
    return pack_slots(graph, Pattern(num_spins), seed=seed)


def repair_packing(
    packing: Packing, graph: WorkingGraph, pattern: Pattern | None = None, *, seed: int = 0
) -> Packing | None:
    """The packing on another working graph of the processor: what is left of it, and new slots.

    Qubits that died leave their chains, and slots that are no embedding any more are dropped; the
    qubits that are free are searched for new slots, and lengthen chains. Takes seconds.

    Args:
        packing: Slots of the graph as it was.
        graph: The working graph as it is now.
        pattern: What its slots couple; None means all pairs.
        seed: Fixes the result.

    Returns:
        The packing; None where more than :data:`REPAIRABLE` of its slots are lost, so that a new
        search is worth its time.
    """
    kept = _intact(packing, graph)
    if not kept or len(kept) < (1 - REPAIRABLE) * packing.num_slots:
        return None
    lost = packing.num_slots - len(kept)
    pattern = pattern or Pattern(packing.num_spins)
    if pattern.num_spins > 1 and _has_shapes(pattern):
        tile = Tile.of(graph, pattern)
        longest = packing.chains.shape[2]
        # Free qubits that no window search turned into a slot before gain little: as many tries
        # as slots were lost, and some.
        tries = min(number_of_runs(pattern) // 2, EXTRA_TRIES + 2 * lost)
        rng = np.random.default_rng(seed)
        kept = kept + slots_from_windows(graph, tile, pattern, kept, longest, rng, tries)
    repaired = _finished(graph, kept, neighbours_of(graph), pattern)
    logger.info(
        "%r: the packing of graph %s was repaired, %d of its %d slots were lost: %s",
        graph,
        packing.graph.graph_id,
        lost,
        packing.num_slots,
        repaired.describe(),
    )
    return repaired


def cached_packing(
    graph: WorkingGraph, pattern: Pattern | int, *, folder: Path | None = None
) -> Packing:
    """The packing of :func:`pack_slots` with seed 0, read from disk if it was made before.

    A file is found by the graph's id, the digest of its qubits and couplers, and the pattern; it is
    checked in full when read. One that is damaged or belongs to another graph is made anew. Where
    the folder has a packing of a graph that differs by a few qubits and couplers, as when a
    processor lost some and kept its name, that one is repaired instead (:func:`repair_packing`).

    Args:
        graph: The working graph of a processor.
        pattern: What a slot couples; a number means a clique of so many spins.
        folder: Where packings are kept; None means ``packings`` in the user's cache folder.

    Raises:
        ValueError: As :func:`pack_slots`.

    Warns:
        UserWarning: A file was unusable, or the packing cannot be written.
    """
    pattern = Pattern(pattern) if isinstance(pattern, int) else pattern
    file = packing_file(graph, pattern, folder)
    if file.is_file():
        try:
            return load_packing(file, graph, pattern)
        except ValueError as error:
            warnings.warn(f"{error} It is made anew.", stacklevel=2)
    packing = _repaired_from(folder, graph, pattern)
    if packing is None:
        logger.info("Packing %s onto %r, up to two minutes.", pattern.describe(), graph)
        packing = pack_slots(graph, pattern)
    try:
        save_packing(packing, file)
    except OSError as error:
        warnings.warn(
            f"The packing cannot be kept in {file.parent} ({error}) and will be made again next "
            f"time: pass another `folder`.",
            stacklevel=2,
        )
    return packing


def best_packing(graph: WorkingGraph, pattern: Pattern, *, folder: Path | None = None) -> Packing:
    """The slots for problems of a pattern: its own, or cliques where there are more of these.

    Cliques are packed only where the processor may hold more of them than it holds bands.

    Args:
        graph: The working graph of a processor.
        pattern: What the problems couple.
        folder: As in :func:`cached_packing`.

    Raises:
        ValueError: Neither fits.
    """
    packing = cached_packing(graph, pattern, folder=folder)
    most_cliques = len(graph.qubits) // pattern.clique.fewest_qubits(pattern.num_spins)
    if pattern == pattern.clique or packing.num_slots >= most_cliques:
        return packing
    try:
        cliques = cached_packing(graph, pattern.clique, folder=folder)
    except ValueError:
        return packing
    return max(packing, cliques, key=lambda found: found.num_slots)


def _has_shapes(pattern: Pattern) -> bool:
    """Whether a packing is of shapes on a tile."""
    return pattern.num_spins < (LARGEST_SHAPE + 1 if pattern.width is None else SMALLEST)


def _repaired_from(folder: Path | None, graph: WorkingGraph, pattern: Pattern) -> Packing | None:
    """The packing of the most similar graph, repaired; None if none is similar."""
    packings = packings_of_kin(graph, pattern, folder)
    if not packings:
        return None
    # That which loses the fewest slots to dead qubits; couplers are looked at in the repair.
    closest = max(packings, key=lambda kin: len(_alive(kin, graph)))
    return repair_packing(closest, graph, pattern)


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
                Packing(graph, _labels(graph, [chains]), packing.pairs)
            except ValueError:
                continue
        intact.append(chains)
    return intact


def _finished(
    graph: WorkingGraph, slots: list[Chains], neighbours: NDArray[np.int32], pattern: Pattern
) -> Packing:
    """The packing of these slots, the chains of cliques lengthened by free qubits."""
    if pattern.width is None:
        lists = [row[row >= 0].tolist() for row in neighbours]
        slots = lengthen(slots, lists, set(free_qubits(graph, slots).tolist()))
        # Slots with chains of one length first, then in the order of their first qubits.
        slots.sort(key=lambda slot: (len(set(map(len, slot))) > 1, min(map(min, slot))))
    else:
        slots = sorted(slots, key=lambda slot: (sum(map(len, slot)), min(map(min, slot))))
    return Packing(graph, _labels(graph, slots), pattern.pairs)


def _too_large(graph: WorkingGraph, pattern: Pattern) -> str:
    if pattern.width is not None:
        return (
            f"Argument `pattern` must be found in the processor's graph, but no "
            f"{pattern.describe()} were found in {graph!r} by a heuristic search: choose smaller "
            f"problems, or another `seed` for pack_slots."
        )
    largest = len(busclique(graph.to_networkx(), None))
    return (
        f"Argument `num_spins` must be the size of a clique that fits, but none of "
        f"{pattern.num_spins} spins was found in {graph!r}; the largest clique found has "
        f"{largest}: choose smaller problems."
    )


def _labels(graph: WorkingGraph, slots: list[Chains]) -> NDArray[np.int32]:
    """Labels of the chains' qubits as :class:`Packing` takes them, from their positions."""
    longest = max(len(chain) for slot in slots for chain in slot)
    labels = np.full((len(slots), len(slots[0]), longest), -1, dtype=np.int32)
    for slot, chains in enumerate(slots):
        for spin, chain in enumerate(chains):
            labels[slot, spin, : len(chain)] = graph.qubits[sorted(chain)]
    return labels
