"""As many disjoint sets as possible out of very many that overlap."""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]


class SetPacking:
    """Chooses disjoint sets: greedily, then by emptying small regions and filling them anew.

    Maximum set packing is NP-hard. The greedy choice takes the set that overlaps the fewest
    others (counted with multiplicity); the search takes a few neighbouring sets out and tries to
    put more in their place, or as many others, which lets the gaps wander until they unite.

    Args:
        members: Elements of each set, shape (sets, largest); N after the last.
        num_elements: N; elements are 0 … N - 1.
        neighbours: Elements near each element, shape (N, largest degree), -1 after the last.
        seed: Fixes the choice.
    """

    def __init__(self, members: Ints, num_elements: int, neighbours: Ints, seed: int) -> None:
        self._members = members
        self._N = num_elements
        self._neighbours = neighbours
        self._rng = np.random.default_rng(seed)
        # Inverted index: the sets that hold element e are _sets[_starts[e] : _starts[e + 1]].
        flat = members.ravel()
        order = np.argsort(flat, kind="stable")
        self._starts = np.searchsorted(flat[order], np.arange(num_elements + 2))
        self._sets = (order // members.shape[1]).astype(np.int32)
        # Ticket of the chosen set that holds each element, -1 for a free one. Element N, the
        # padding, is always free.
        self._owner = np.full(num_elements + 1, -1, dtype=np.int32)
        # Number of taken elements of each set: a set with none can be chosen. Kept up to date,
        # because looking at the elements of all sets around would be most of the work.
        self._taken = np.zeros(len(members), dtype=np.int32)
        self._chosen: dict[int, int] = {}  # set by ticket
        self._next = 0

    def solve(self, rounds_per_set: int, max_rounds: int) -> list[int]:
        """Numbers of the chosen sets, ascending.

        Args:
            rounds_per_set: Exchanges tried for each set of the greedy choice.
            max_rounds: Largest number of exchanges.
        """
        if len(self._members):
            self._add(self._greedy(np.arange(len(self._members)), noise=0.0))
            for _ in range(min(max_rounds, rounds_per_set * len(self._chosen))):
                self._exchange()
        return sorted(self._chosen.values())

    def _add(self, sets: list[int]) -> None:
        """Choose these sets, which are disjoint from each other and from the chosen ones."""
        for number in sets:
            self._owner[self._members[number]] = self._next
            self._chosen[self._next] = number
            self._next += 1
        self._owner[self._N] = -1
        self._taken += self._occurrences(self._sets_with(self._elements(sets)))

    def _elements(self, sets: list[int]) -> Ints:
        """Elements of disjoint sets, without padding."""
        elements = self._members[sets].ravel()
        return elements[elements < self._N]

    def _sets_with(self, elements: Ints) -> Ints:
        """Sets that hold any of these elements, repeated for every element they hold."""
        return np.concatenate([self._sets[self._starts[e] : self._starts[e + 1]] for e in elements])

    def _occurrences(self, sets: Ints) -> NDArray[np.int64]:
        """How often each set occurs, shape (sets,)."""
        return np.bincount(sets, minlength=len(self._members))

    def _greedy(self, sets: NDArray[np.integer], noise: float) -> list[int]:
        """Disjoint sets among these, one after the other, each blocking the fewest left.

        Args:
            sets: Numbers of the sets.
            noise: Largest relative error put on the number of blocked sets, so that repeated
                calls differ.
        """
        chosen: list[int] = []
        used = np.zeros(self._N + 1, dtype=bool)
        members = self._members[sets]
        # Number of the sets left that hold each element; padding blocks nothing.
        counts = np.bincount(members.ravel(), minlength=self._N + 1)
        while len(sets):
            counts[self._N] = 0
            score = counts[members].sum(1)
            if noise:
                score = score * (1 + noise * self._rng.random(len(sets)))
            best = int(np.argmin(score))
            chosen.append(int(sets[best]))
            used[members[best]] = True
            used[self._N] = False
            # Drop the chosen set and all that overlap it, and their elements from the counts.
            blocked = used[members].any(1)
            counts -= np.bincount(members[blocked].ravel(), minlength=self._N + 1)
            sets, members = sets[~blocked], members[~blocked]
        return chosen

    def _exchange(self) -> None:
        """Take a few neighbouring sets out; put at least as many in."""
        out = self._region(int(self._rng.integers(2, 6)))
        old = [self._chosen[ticket] for ticket in out]
        # Free their elements.
        elements = self._elements(old)
        self._owner[elements] = -1
        sets = self._sets_with(elements)
        self._taken -= self._occurrences(sets)
        # Only sets that hold a freed element can have become free; the best of two noisy fillings.
        sets = np.unique(sets[self._taken[sets] == 0])
        new = max((self._greedy(sets, noise=0.3) for _ in range(2)), key=len)
        for ticket in out:
            del self._chosen[ticket]
        self._add(new if len(new) >= len(old) else old)

    def _region(self, size: int) -> list[int]:
        """Tickets of a random chosen set and of up to size - 1 with elements next to its own."""
        tickets = list(self._chosen)
        start = tickets[int(self._rng.integers(len(tickets)))]
        own = self._members[self._chosen[start]]
        near = self._neighbours[own[own < self._N]]
        around = np.unique(self._owner[near[near >= 0]])
        around = around[(around >= 0) & (around != start)]
        return [start, *self._rng.permutation(around)[: size - 1].tolist()]
