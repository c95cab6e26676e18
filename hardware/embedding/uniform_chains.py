"""Lengthening chains by free qubits, so that all chains of a slot are of one length.

Strongly coupled qubits flip together more slowly than one does, so the chains of a slot see one
temperature only if they are of one length.
"""

from collections.abc import Mapping, Sequence

Chains = list[list[int]]
Neighbours = Sequence[Sequence[int]] | Mapping[int, Sequence[int]]


def lengthen(slots: list[Chains], neighbours: Neighbours, free: set[int]) -> list[Chains]:
    """The slots, as many as possible with all chains lengthened to the slot's longest.

    A chain that is short by k needs k free qubits coupled to it. Which qubit serves which need is
    a bipartite matching that grows along augmenting paths (Kuhn's algorithm), the slots with the
    fewest needs first; a slot gets all that it needs or nothing.

    Args:
        slots: Qubits of each chain of each slot.
        neighbours: Qubits coupled to each qubit.
        free: Qubits in no chain.
    """
    needs = [_short_chains(slot) for slot in slots]
    reach: dict[int, list[int]] = {}
    need_of: dict[int, int] = {}  # the need that a free qubit serves
    owner: list[tuple[int, int]] = []  # slot and chain of each need
    for slot in sorted(range(len(slots)), key=lambda slot: (len(needs[slot]), slot)):
        # All needs of a slot, or the matching as it was before the slot.
        before = dict(need_of)
        for chain in needs[slot]:
            need = len(owner)
            owner.append((slot, chain))
            around = {q for p in slots[slot][chain] for q in neighbours[p]}
            reach[need] = sorted(around & free)
            if not _augment(need, reach, need_of):
                need_of = before
                break
    # Hand the qubits out.
    longer = [[list(chain) for chain in slot] for slot in slots]
    for qubit, need in sorted(need_of.items()):
        slot, chain = owner[need]
        longer[slot][chain].append(qubit)
    return longer


def _short_chains(slot: Chains) -> list[int]:
    """Chains shorter than the longest, each as often as it lacks a qubit."""
    longest = max(map(len, slot))
    return [k for k, chain in enumerate(slot) for _ in range(longest - len(chain))]


def _augment(need: int, reach: dict[int, list[int]], need_of: dict[int, int]) -> bool:
    """Serve one more need, if the needs served before can exchange their qubits for it.

    Breadth first, from the new need over taken qubits to the needs that have them, until a qubit
    is found that no need has; then every need on the way back takes the next qubit.
    """
    came_from: dict[int, int] = {}  # qubit -> need from which it was reached
    queue = [need]
    for current in queue:
        for qubit in reach[current]:
            if qubit in came_from:
                continue
            came_from[qubit] = current
            if qubit in need_of:
                queue.append(need_of[qubit])
                continue
            # A free qubit: flip the augmenting path that ends at it.
            had = {other: taken for taken, other in need_of.items()}
            taker = current
            while taker != need:
                need_of[qubit] = taker
                qubit = had[taker]
                taker = came_from[qubit]
            need_of[qubit] = need
            return True
    return False
