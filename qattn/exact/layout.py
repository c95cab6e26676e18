r"""How a batch is cut for exact enumeration: two halves of the spins, blocks of the queries."""

import itertools
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

BLOCK_COST = 1 << 20
"""Multiply-adds that one more block of queries must save in each matrix product to pay its way."""


@dataclass(frozen=True, eq=False)
class Layout:
    """The cut of a batch.

    Attributes:
        spins_a: Number of spins in half A (the first spins; a state's low bits).
        spins_b: Number of spins in half B.
        blocks: (first query, end query, columns): the queries in ascending order of length, cut
            where that saves work, and the number of B states that they can reach.
        order: Permutation that sorts the queries by length (on the CPU), or None if they are.
    """

    spins_a: int
    spins_b: int
    blocks: tuple[tuple[int, int, int], ...]
    order: Tensor | None


def cut(lengths: Tensor | None, num_queries: int, num_spins: int) -> Layout:
    """The layout of a batch; cached by lengths."""
    if lengths is None:
        key = (num_spins,) * num_queries
    else:
        longest = lengths if lengths.ndim == 1 else lengths.amax(0)
        key = tuple(longest.tolist())
    return _cut(key, num_spins)


@lru_cache(maxsize=256)
def _cut(lengths: tuple[int, ...], num_spins: int) -> Layout:
    spins_a = num_spins // 2
    spins_b = num_spins - spins_a
    ascending = all(a <= b for a, b in itertools.pairwise(lengths))
    order = None if ascending else torch.tensor(lengths).argsort(stable=True)
    columns = [1 << max(0, length - spins_a) for length in sorted(lengths)]
    return Layout(spins_a, spins_b, _blocks(columns, 1 << spins_a), order)


def _blocks(columns: list[int], rows: int) -> tuple[tuple[int, int, int], ...]:
    """Cut ascending `columns` so that the padding saved exceeds the cost of a block (greedily)."""
    blocks: list[tuple[int, int, int]] = []
    for q, cols in enumerate(columns):
        if blocks and blocks[-1][2] == cols:
            blocks[-1] = (blocks[-1][0], q + 1, cols)
        else:
            blocks.append((q, q + 1, cols))
    merged: list[tuple[int, int, int]] = []
    for block in blocks:
        while merged:
            start, end, cols = merged[-1]
            if (end - start) * (block[2] - cols) * rows > BLOCK_COST:
                break
            merged.pop()
            block = (start, block[1], block[2])
        merged.append(block)
    return tuple(merged)


@lru_cache(maxsize=64)
def states(num_spins: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "states n"]:
    """All 2^n states in {-1, +1}; spin j of state i is bit j of i (set: +1)."""
    index = torch.arange(1 << num_spins, device=device)
    bits = (index[:, None] >> torch.arange(num_spins, device=device)) & 1
    return (2 * bits - 1).to(dtype)


@lru_cache(maxsize=64)
def part_states(
    parts: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "states n"]:
    """The states of consecutive parts of the spins, one part after another, 0 outside the part."""
    joint: Tensor = torch.block_diag(*(states(m, dtype, device) for m in parts))
    return joint
