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

    Spin j of a problem lies on chain offset + j of its slot. Biases are moved as they are, in
    whatever sign convention they have.

    With `shared` = 1 spin 0, which carries the fields, lies on chain 0, and so do those of the
    slot's other problems. That changes no distribution: given the carrier, the problems are
    independent, and a read s_0 s_j has the same distribution for both values of s_0.

    Attributes:
        problem: Numbers of the problems that the job carries, ascending, shape (placed,).
        slot: Slot of each problem.
        offset: First chain of each problem within its slot.
        size: Number of spins of each problem.
        shared: Number, 0 or 1, of spins that the problems of a slot have in common.
    """

    problem: Ints
    slot: Ints
    offset: Ints
    size: Ints
    shared: int = 0

    @cached_property
    def _spins(self) -> tuple[Ints, Ints]:
        """Placed problem (a row of the arrays) and number of every spin of every problem."""
        row = np.repeat(np.arange(len(self.size)), self.size)
        # A running number, less that of the problem's first spin.
        spin = np.arange(len(row)) - np.repeat(np.cumsum(self.size) - self.size, self.size)
        return row, spin

    @cached_property
    def _pairs(self) -> tuple[Ints, Ints, Ints]:
        """Row and both spins of every ordered pair of spins of one problem, j = k included."""
        row, spin = self._spins
        # Each spin is repeated as often as its problem has spins, and the partners are counted.
        partners = self.size[row]
        first = np.repeat(np.arange(len(row)), partners)
        second = np.arange(len(first)) - np.repeat(np.cumsum(partners) - partners, partners)
        return row[first], spin[first], second

    def chain(self, row: Ints, spin: Ints) -> Ints:
        """Chain, within its slot, of a spin of the problem in a row of the arrays."""
        return np.where(spin < self.shared, spin, self.offset[row] + spin)

    def of_problems(self, numbers: Ints) -> "Placement":
        """The same places under other numbers: problem p becomes ``numbers[p]``.

        Args:
            numbers: New number of each problem, ascending.
        """
        return replace(self, problem=numbers[self.problem])

    def used(self, num_slots: int, num_spins: int) -> NDArray[np.bool_]:
        """Chains that carry a spin, shape (slots, n)."""
        row, spin = self._spins
        used = np.zeros((num_slots, num_spins), dtype=bool)
        used[self.slot[row], self.chain(row, spin)] = True
        return used

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
            group: Group of each problem, shape (problems,); None means one group a problem.

        Returns:
            h, shape (slots, n), and J, shape (slots, n, n).
        """
        # Fields: one entry for each spin of each problem.
        by_slot = np.zeros((num_slots, num_spins))
        row, spin = self._spins
        by_slot[self.slot[row], self.chain(row, spin)] = h[self.problem[row], spin]
        # Couplings: a block on the diagonal of the slot's matrix for each problem.
        couplings = np.zeros((num_slots, num_spins, num_spins))
        row, j, k = self._pairs
        group_of = self.problem if group is None else group[self.problem]
        couplings[self.slot[row], self.chain(row, j), self.chain(row, k)] = J[group_of[row], j, k]
        return by_slot, couplings

    def gather(self, values: NDArray[Any], width: int) -> NDArray[Any]:
        """Values by placed problem from values by chain.

        Args:
            values: Any values of a packing's chains, shape (slots, n, ...).
            width: Spins of the result, at least as many as the largest problem has.

        Returns:
            Shape (placed, width, ...), 0 beyond a problem's size.
        """
        row, spin = self._spins
        gathered = np.zeros((len(self.problem), width, *values.shape[2:]), dtype=values.dtype)
        gathered[row, spin] = values[self.slot[row], self.chain(row, spin)]
        return gathered


def place(
    sizes: NDArray[np.integer[Any]], num_slots: int, num_spins: int, *, shared: int = 0
) -> list[Placement]:
    """A placement of problems onto slots, several small ones to a slot, in few jobs.

    First-fit decreasing: each slot takes the largest problem that is left, and again the largest
    that still fits, until none does. This needs at most 11/9 of the fewest possible slots, and
    exactly the fewest for the sizes 1 … n of causal attention in equal numbers.

    Args:
        sizes: Spins of each problem, shape (problems,); problems without spins are not placed.
        num_slots: Slots of the packing.
        num_spins: Spins n of a slot.
        shared: Number, 0 or 1, of spins of each problem that the problems of a slot share.

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
    # What the problems share is not placed.
    sizes, num_spins = sizes - shared * (sizes > 0), num_spins - shared
    # How many problems of each size are left to place; the empty ones are not placed.
    left = np.bincount(sizes, minlength=num_spins + 1)
    left[0] = 0
    # Problems in order of size, the empty ones first, and where the next of each size stands.
    by_size = np.argsort(sizes, kind="stable")
    next_of_size = np.cumsum(left) - left + (len(sizes) - left.sum())
    parts: list[tuple[Ints, Ints, Ints, Ints]] = []
    num_filled = 0
    # Slots are numbered through all jobs here. Successive slots of one pattern are filled at once.
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
    # Each job takes num_slots of the slots; within a job problems are in ascending order.
    order = np.lexsort((problem, slot // num_slots))
    problem, slot, offsets, size_of = (x[order] for x in (problem, slot, offsets, size_of))
    starts = np.searchsorted(slot // num_slots, np.arange(-(-num_filled // num_slots) + 1))
    return [
        Placement(problem[a:b], slot[a:b] % num_slots, offsets[a:b], size_of[a:b] + shared, shared)
        for a, b in pairwise(starts.tolist())
    ]


def _fill(left: Ints, num_spins: int) -> tuple[list[int], int]:
    """Sizes that fill one slot, and how many successive slots are filled by the same sizes."""
    pattern: list[int] = []
    before, left = left, left.copy()
    room = num_spins
    # The largest problem that fits, until none does.
    while (fitting := np.flatnonzero(left[: room + 1])).size:
        pattern.append(int(fitting[-1]))
        left[pattern[-1]] -= 1
        room -= pattern[-1]
    # The choice stays the same while every size in the pattern lasts.
    taken = before - left
    return pattern, int((before[taken > 0] // taken[taken > 0]).min())
