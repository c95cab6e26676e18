"""Which problem goes to which slot of which job."""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Placement:
    """The problems of one job, each on successive chains of a slot.

    Attributes:
        problem: Numbers of the problems that the job carries, ascending, shape (placed,).
        slot: Slot of each.
        offset: First chain of each within its slot.
        size: Spins of each.
    """

    problem: Ints
    slot: Ints
    offset: Ints
    size: Ints

    @cached_property
    def _spins(self) -> tuple[Ints, Ints]:
        """Row and spin of every spin of every placed problem."""
        row = np.repeat(np.arange(len(self.size)), self.size)
        spin = np.arange(len(row)) - np.repeat(np.cumsum(self.size) - self.size, self.size)
        return row, spin

    @cached_property
    def _pairs(self) -> tuple[Ints, Ints, Ints]:
        """Row and both spins of every ordered pair of spins of one problem, j = k included."""
        row, spin = self._spins
        size = self.size[row]
        at = np.repeat(np.arange(len(row)), size)
        other = np.arange(len(at)) - np.repeat(np.cumsum(size) - size, size)
        return row[at], spin[at], other

    def of_problems(self, numbers: Ints) -> "Placement":
        """The same places under other numbers: problem p becomes ``numbers[p]``.

        Args:
            numbers: New number of each problem, ascending.
        """
        return replace(self, problem=numbers[self.problem])

    def used(self, num_slots: int, num_spins: int) -> NDArray[np.bool_]:
        """Chains that carry a spin, shape (slots, n)."""
        row, spin = self._spins
        found = np.zeros((num_slots, num_spins), dtype=bool)
        found[self.slot[row], self.offset[row] + spin] = True
        return found

    def scatter(
        self,
        h: NDArray[np.float64],
        J: NDArray[np.float64],
        num_slots: int,
        num_spins: int,
        group: Ints | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Biases by slot from biases by problem; 0 where there is no problem, or between two.

        Args:
            h: Linear biases of all problems (of all jobs), shape (problems, spins).
            J: Quadratic biases of each group, shape (groups, spins, spins).
            num_slots: Slots of the packing.
            num_spins: Spins n of a slot.
            group: Group of each problem, shape (problems,); None for one group a problem.

        Returns:
            h, shape (slots, n), and J, shape (slots, n, n).
        """
        by_slot = np.zeros((num_slots, num_spins))
        row, spin = self._spins
        by_slot[self.slot[row], self.offset[row] + spin] = h[self.problem[row], spin]
        couplings = np.zeros((num_slots, num_spins, num_spins))
        row, j, k = self._pairs
        group_of = self.problem if group is None else group[self.problem]
        start = self.offset[row]
        couplings[self.slot[row], start + j, start + k] = J[group_of[row], j, k]
        return by_slot, couplings

    def gather(self, spins: NDArray[np.int8], width: int) -> NDArray[np.int8]:
        """Reads by placed problem from reads by slot.

        Args:
            spins: Reads of a packing, shape (slots, num_reads, n).
            width: Spins of the answer, at least as many as the largest problem has.

        Returns:
            Shape (placed, num_reads, width), 0 beyond a problem's size.
        """
        row, spin = self._spins
        found = np.zeros((len(self.problem), width, spins.shape[1]), dtype=np.int8)
        found[row, spin] = spins.transpose(0, 2, 1)[self.slot[row], self.offset[row] + spin]
        return found.transpose(0, 2, 1)

    def gather_chains(self, values: NDArray[Any], width: int) -> NDArray[Any]:
        """Values by placed problem, shape (placed, width), from values by chain, (slots, n)."""
        row, spin = self._spins
        found = np.zeros((len(self.problem), width), dtype=values.dtype)
        found[row, spin] = values[self.slot[row], self.offset[row] + spin]
        return found


def place(sizes: NDArray[np.integer[Any]], num_slots: int, num_spins: int) -> list[Placement]:
    """Problems onto slots, several small ones to a slot, in as few jobs as first-fit finds.

    First-fit decreasing: each slot takes the largest problem that is left, and again the largest
    that still fits, until none does. This needs at most 11/9 of the fewest possible slots, and
    exactly the fewest for the sizes 1 … n of causal attention in equal numbers.

    Args:
        sizes: Spins of each problem, shape (problems,); problems without spins are not placed.
        num_slots: Slots of the packing.
        num_spins: Spins n of a slot.

    Returns:
        One placement for each job.

    Raises:
        ValueError: A problem is larger than a slot, or a slot is needed and there is none.
    """
    sizes = np.asarray(sizes, dtype=np.int64)
    if len(sizes) and (sizes.min() < 0 or sizes.max() > num_spins):
        raise ValueError(
            f"Argument `sizes` must lie between 0 and {num_spins} (the spins of a slot), but "
            f"ranges from {sizes.min()} to {sizes.max()}: use a packing of larger cliques."
        )
    if num_slots < 1 and sizes.any():
        raise ValueError(f"Argument `num_slots` must be at least 1, but is {num_slots}.")
    left = np.bincount(sizes, minlength=num_spins + 1)
    left[0] = 0
    by_size = np.argsort(sizes, kind="stable")
    next_of_size = np.cumsum(left) - left + (len(sizes) - left.sum())
    parts: list[tuple[Ints, Ints, Ints, Ints]] = []
    num_filled = 0
    while left.any():
        pattern, repeats = _fill(left, num_spins)
        offset = 0
        slots = num_filled + np.arange(repeats)
        for size in pattern:
            chosen = by_size[next_of_size[size] : next_of_size[size] + repeats]
            next_of_size[size] += repeats
            parts.append((chosen, slots, np.full(repeats, offset), np.full(repeats, size)))
            offset += size
        left -= repeats * np.bincount(pattern, minlength=num_spins + 1)
        num_filled += repeats
    if not parts:
        return []
    problem, slot, offsets, size_of = (np.concatenate(x) for x in zip(*parts, strict=True))
    order = np.lexsort((problem, slot // num_slots))
    problem, slot, offsets, size_of = (x[order] for x in (problem, slot, offsets, size_of))
    starts = np.searchsorted(slot // num_slots, np.arange(-(-num_filled // num_slots) + 1))
    return [
        Placement(problem[a:b], slot[a:b] % num_slots, offsets[a:b], size_of[a:b])
        for a, b in pairwise(starts.tolist())
    ]


def _fill(left: Ints, num_spins: int) -> tuple[list[int], int]:
    """Sizes that fill one slot, and how many slots in a row are filled by the same."""
    pattern: list[int] = []
    left = left.copy()
    room = num_spins
    before = left.copy()
    while (fitting := np.flatnonzero(left[: room + 1])).size:
        pattern.append(int(fitting[-1]))
        left[pattern[-1]] -= 1
        room -= pattern[-1]
    taken = before - left
    return pattern, int((before[taken > 0] // taken[taken > 0]).min())
