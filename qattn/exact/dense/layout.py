r"""How a batch is cut for exact enumeration, and the constant tables that go with a cut.

Queries are sorted by length and cut into blocks; a block is enumerated with as many spins as its
longest query has, rounded up to an even number so that its two halves have the same size.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from qattn._tracing import cached_constant
from qattn._vmap import listed
from qattn.ising.states import states


@dataclass(frozen=True, eq=False)
class Block:
    """Queries start … end - 1 (in the order of the layout), enumerated with `num_spins` spins.

    `lengths` has one tuple of lengths for all groups, or one for each; None if every spin of
    every query is present.
    """

    start: int
    end: int
    num_spins: int
    lengths: tuple[tuple[int, ...], ...] | None

    @property
    def half(self) -> int:
        """Number of spins in each half."""
        return self.num_spins // 2


@dataclass(frozen=True, eq=False)
class Layout:
    """How the queries of a batch are cut into blocks.

    Attributes:
        num_groups: Number of groups of the batch.
        num_spins: Number of spins, even: the batch's, or one more.
        blocks: Blocks that cover the queries in order.
        order: Permutation that sorts the queries by length (on the CPU), or None if they are.
    """

    num_groups: int
    num_spins: int
    blocks: tuple[Block, ...]
    order: Tensor | None

    def lengths(self) -> Int[Tensor, "#groups queries"]:
        """Numbers of spins, in the order of the layout."""
        blocks = [b.lengths or ((b.num_spins,) * (b.end - b.start),) for b in self.blocks]
        rows = max(len(block) for block in blocks)
        return torch.cat([torch.tensor(b, device="cpu").expand(rows, -1) for b in blocks], 1)

    def copies(self, num_groups: int) -> int:
        """Number of repeats of the batch's groups in `num_groups`: the members of a vmap."""
        return num_groups // self.num_groups


def arranged(h: Float[Tensor, "g q n"], lay: Layout) -> Float[Tensor, "g q even"]:
    """Fields with the queries in the order of the layout and an even number of spins."""
    if lay.order is not None:
        h = h[:, lay.order.to(h.device)]
    return F.pad(h, (0, 1)) if lay.num_spins > h.shape[2] else h


def padded(J: Float[Tensor, "g n n"], lay: Layout) -> Float[Tensor, "g even even"]:
    """Couplings of an even number of spins."""
    return F.pad(J, (0, 1, 0, 1)) if lay.num_spins > J.shape[2] else J


def restored(x: Tensor, lay: Layout) -> Tensor:
    """Values of the queries in the order of the batch."""
    return x if lay.order is None else x[:, lay.order.argsort().to(x.device)]


def cut(
    lengths: Tensor | None,
    num_groups: int,
    num_queries: int,
    num_spins: int,
    *,
    by_loops: bool = False,
) -> Layout:
    """The layout of a batch, for the compiled loops or for plain PyTorch; cached by lengths."""
    rows: tuple[tuple[int, ...], ...] | None = None
    if lengths is not None:
        values = listed(lengths)
        rows = tuple(map(tuple, values)) if lengths.ndim == 2 else (tuple(values),)
    elif num_spins % 2:
        rows = ((num_spins,) * num_queries,)
    return _cut(rows, num_groups, num_queries, num_spins + num_spins % 2, by_loops)


HOPELESS = 64
"""Spins whose 2^n states fit no memory: their layout is only asked what it would need."""


@cached_constant(maxsize=256)
def _cut(
    lengths: tuple[tuple[int, ...], ...] | None,
    num_groups: int,
    num_queries: int,
    num_spins: int,
    by_loops: bool,
) -> Layout:
    if lengths is None:
        return Layout(num_groups, num_spins, (Block(0, num_queries, num_spins, None),), None)
    # Queries in the order of their length; where groups differ, of the longest group's.
    longest = [max(column) for column in zip(*lengths, strict=True)]
    if max(longest) > HOPELESS:
        return Layout(num_groups, num_spins, (Block(0, num_queries, num_spins, None),), None)
    order = None
    if any(a > b for a, b in itertools.pairwise(longest)):
        order = torch.tensor(longest).argsort(stable=True)
        lengths = tuple(tuple(row[i] for i in order.tolist()) for row in lengths)
        longest.sort()
    # A block has an even number of spins, two at least, so that both halves have spins.
    sizes = [max(2, length + length % 2) for length in longest]
    blocks = []
    for start, end in _cheapest_cut(sizes, num_groups, _cost_of_loops if by_loops else _cost):
        part = tuple(row[start:end] for row in lengths)
        full = all(length == sizes[end - 1] for row in part for length in row)
        blocks.append(Block(start, end, sizes[end - 1], None if full else part))
    return Layout(num_groups, num_spins, tuple(blocks), order)


def _cheapest_cut(
    sizes: list[int], num_groups: int, cost_of: Callable[[int, int, int], float]
) -> list[tuple[int, int]]:
    """Cut ascending block sizes where the work saved exceeds the overhead of a block."""
    # Cuts lie between runs of equal sizes; best[i] is the cheapest cut of the first i runs.
    ends = [0, *itertools.accumulate(len(list(run)) for _, run in itertools.groupby(sizes))]
    best: list[tuple[float, list[tuple[int, int]]]] = [(0.0, [])]
    for end in ends[1:]:
        choices = [
            (cost + cost_of(sizes[end - 1], end - start, num_groups), [*cuts, (start, end)])
            for (cost, cuts), start in zip(best, ends, strict=False)
        ]
        best.append(min(choices))
    return best[-1][1]


def _cost(num_spins: int, num_queries: int, num_groups: int) -> float:
    """Rough nanoseconds of a forward and backward pass on one core, fitted to measurements."""
    table, vector = 2.0**num_spins, 2.0 ** (num_spins // 2)
    return 1e6 + num_groups * (5 * table + num_queries * (0.25 * table + 10 * vector))


def _cost_of_loops(num_spins: int, num_queries: int, num_groups: int) -> float:
    """The same for the compiled loops, which compute 16 queries as one."""
    table, vector, queries = 2.0**num_spins, 2.0 ** (num_spins // 2), 16 * -(-num_queries // 16)
    return num_groups * (1500 + 1.5 * table + queries * (0.08 * table + 3 * vector))


class Masks(NamedTuple):
    """Which spins of a block are there, as numbers 0 and 1; the first dimension is 1 or groups."""

    present: Float[Tensor, "#groups n queries"]
    absent: Float[Tensor, "#groups n queries"]
    possible: Float[Tensor, "#groups two parts queries"]


@cached_constant(maxsize=256)
def masks(block: Block, copies: int, dtype: torch.dtype, device: torch.device) -> Masks | None:
    """The masks of a block whose groups are repeated; None means that every spin is present."""
    if block.lengths is None:
        return None
    rows = block.lengths if len(block.lengths) == 1 else block.lengths * copies
    lengths = torch.tensor(rows, device=device).unsqueeze(1)
    present = (torch.arange(block.num_spins, device=device).unsqueeze(1) < lengths).to(dtype)
    absent = 1 - present
    # A state of a part is possible if it has none of the absent spins up.
    up = _part_states(block.half, dtype, device).relu()
    possible = (up @ absent.unflatten(1, (2, block.half)) == 0).to(dtype)
    return Masks(present, absent, possible)


class Tables(NamedTuple):
    """Constant tables of n spins, in the notation of :mod:`qattn.exact.dense.factorised`.

    Attributes:
        occupied: 1 where a spin of a half's state is up, then 1 where it is down, else 0.
        penalties: -2 where a spin of a part's state opposes a field; of up, then of down fields.
        features: Features F of the states of a half: its spins, their pairs, and 1.
        pairs_occupied: The same features of occupations: which spins and pairs are up, and 1.
        pair_of_entry: Number j·n + k of the pair of spins that an entry of M stands for.
        entry_is_pair: 1 where an entry of M stands for a pair, else 0.
        entry_of_pair: The entry of M that stands for the pair j·n + k, in either order.
        off_diagonal: 1 off the diagonal, 0 on it.
    """

    occupied: Float[Tensor, "states two_half"]
    penalties: Float[Tensor, "parts n"]
    features: Float[Tensor, "states features"]
    pairs_occupied: Float[Tensor, "states features"]
    pair_of_entry: Int[Tensor, " entries"]
    entry_is_pair: Float[Tensor, " entries"]
    entry_of_pair: Int[Tensor, " n_times_n"]
    off_diagonal: Float[Tensor, "n n"]


@cached_constant(maxsize=64)
def tables(num_spins: int, dtype: torch.dtype, device: torch.device) -> Tables:
    """The constant tables of an even number of spins."""
    n, half = num_spins, num_spins // 2
    # States of a half, and of its low and high parts.
    S = states(half, dtype, device)
    parts = _part_states(half, dtype, device)
    # Features of a half in the order: spins, pairs within the half, 1.
    row, col = torch.triu_indices(half, half, 1)
    up = S.relu()
    features, pairs_occupied = (
        torch.cat([x, x[:, row] * x[:, col], x.new_ones(len(x), 1)], 1) for x in (S, up)
    )
    # The pair of spins, j·n + k, that each entry of M stands for; -1 for none. A pair across the
    # halves multiplies a spin of A and one of B, a pair within A pairs of A with the 1 of B, and a
    # pair within B the 1 of A with pairs of B.
    pair = torch.arange(n * n).view(n, n)
    entry = torch.full((features.shape[1],) * 2, -1)
    entry[:half, :half] = pair[:half, half:]
    entry[half:-1, -1] = pair[row, col]
    entry[-1, half:-1] = pair[row + half, col + half]
    entry = entry.flatten()
    # The inverse: the entry of M of each pair j < k, and, by symmetry, of k > j.
    position = torch.zeros(n, n, dtype=torch.int64)
    position.view(-1)[entry[entry >= 0]] = (entry >= 0).nonzero().squeeze(1)
    return Tables(
        torch.cat([up, 1 - up], 1),
        # A field up (the first columns) is opposed by spins that are down, one down by those up.
        -2 * torch.cat([(-parts).relu(), parts.relu()], 1),
        features,
        pairs_occupied,
        entry.clamp_min(0).to(device),
        (entry >= 0).to(device, dtype),
        (position + position.mT).flatten().to(device),
        1 - torch.eye(n, dtype=dtype, device=device),
    )


def part_sizes(half: int) -> tuple[int, int]:
    """Numbers of states of the low and the high part of a half."""
    return 1 << half // 2, 1 << (half - half // 2)


def _part_states(half: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "parts h"]:
    """The states of the low part of a half, then those of the high part, 0 outside the part."""
    low = half // 2
    joint: Tensor = torch.block_diag(*(states(m, dtype, device) for m in (low, half - low)))
    return joint
