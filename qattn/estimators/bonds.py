"""Pairs of coupled spins, in sets that are treated at once."""

from collections.abc import Iterator
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from qattn.couplings import Banded, Block, Couplings

SPARSE = 0.25
"""Share of the pairs of a dense J below which only those that are coupled are pairs."""

Spins = slice | Tensor
"""Numbers of spins."""


class Bonds(NamedTuple):
    """Pairs of the spins `first` and `second`, in turn; or of the one first and all second.

    Attributes:
        first: Spins i.
        second: Spins j.
        J: Their couplings.
        place: Where they stand in the values of J.
    """

    first: Spins
    second: Spins
    J: Float[Tensor, "g m 1 1"]
    place: tuple[Spins | int, ...]


def coupled_pairs(J: Tensor | Couplings) -> list[Bonds] | None:
    """All pairs that can be coupled, each once; None if these are all or nearly all pairs."""
    if isinstance(J, Banded):
        return list(_of_band(J.values))
    if isinstance(J, Block):
        return list(_of_blocks(J))
    assert isinstance(J, Tensor)
    n = J.shape[-1]
    i, j = (J != 0).any(0).triu(1).nonzero(as_tuple=True)
    return list(_listed(J, i, j)) if 2 * len(i) < SPARSE * n * (n - 1) else None


def all_pairs(J: Float[Tensor, "g n n"]) -> Iterator[Bonds]:
    """One spin i and all j > i at a time: memory of n, not n², values a read."""
    for i in range(J.shape[-1] - 1):
        later = slice(i + 1, None)
        yield _bonds(J, slice(i, i + 1), later, (slice(None), i, later))


def _of_band(values: Float[Tensor, "g n w"]) -> Iterator[Bonds]:
    """One distance at a time."""
    n, width = values.shape[1:]
    for d in range(1, min(width, n - 1) + 1):
        place = slice(None), slice(d, None), d - 1
        yield _bonds(values, slice(n - d), slice(d, None), place)


def _of_blocks(J: Block) -> Iterator[Bonds]:
    """One pair of positions in a block at a time, in all blocks that have the second."""
    m, n = J.block_size, J.num_spins
    for b in range(1, m):
        blocks = len(range(b, n, m))
        for a in range(b if blocks else 0):
            place = slice(None), slice(blocks), a, b
            yield _bonds(J.values, slice(a, a + blocks * m, m), slice(b, n, m), place)


def _listed(J: Float[Tensor, "g n n"], i: Tensor, j: Tensor) -> Iterator[Bonds]:
    """As many pairs at a time as there are spins."""
    size = J.shape[-1]
    for first, second in zip(i.split(size), j.split(size), strict=True):
        yield _bonds(J, first, second, (slice(None), first, second))


def _bonds(values: Tensor, i: Spins, j: Spins, place: tuple[Spins | int, ...]) -> Bonds:
    return Bonds(i, j, values[place][..., None, None], place)


def add_to_spins(total: Float[Tensor, "g n q"], spins: Spins, x: Float[Tensor, "g m q"]) -> None:
    """Add what each pair gives to one of its spins, in place."""
    if isinstance(spins, slice):
        total[:, spins] += x.sum_to_size(total[:, spins].shape)
    else:
        total.index_add_(1, spins, x)


def symmetric(upper: Float[Tensor, "*g n n"]) -> Float[Tensor, "*g n n"]:
    """What stands above the diagonal, below it too."""
    upper = upper.triu(1)
    return upper + upper.mT
