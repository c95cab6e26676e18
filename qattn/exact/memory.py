"""What exact enumeration needs, stated before it is allocated."""

from functools import lru_cache

from torch import Tensor

from qattn.exact.dense.layout import Block, Layout, cut, part_sizes

MEMORY_LIMIT = 8 * 2**30
"""Bytes that one call may need; assign to ``qattn.exact.memory.MEMORY_LIMIT`` to change it."""


def required_bytes(
    num_groups: int,
    num_queries: int,
    num_spins: int,
    itemsize: int,
    lengths: Tensor | None = None,
) -> int:
    """Bytes that a forward and backward pass takes at its peak, up to 25% too many.

    A block of queries that are enumerated together with n spins has two tables of 2^n numbers a
    group (K and its gradient) and eight vectors of 2^(n/2) numbers a query; the backward pass holds
    half of that for one block at a time. The compiled loops need less where
    there are many queries, down to half. Not counted: what a query that needs log space takes,
    some 128 MiB at most.

    Args:
        num_groups: Groups of the batch.
        num_queries: Queries of each group.
        num_spins: Spins of each query.
        itemsize: Bytes of a number: 4 in float32; 8 in float64, and where couplings or small
            occupations make float32 inaccurate, so that float64 is used.
        lengths: As of :class:`qattn.IsingBatch`; fewer spins need less.
    """
    return _bytes_of(cut(lengths, num_groups, num_queries, num_spins), num_groups, itemsize)


def check_memory(
    num_groups: int,
    num_queries: int,
    num_spins: int,
    itemsize: int,
    lengths: Tensor | None = None,
) -> None:
    """Raise a MemoryError that states the need and the way out if a call would exceed the limit."""
    check_layout(cut(lengths, num_groups, num_queries, num_spins), num_groups, itemsize)


def check_layout(lay: Layout, num_groups: int, itemsize: int) -> None:
    """As :func:`check_memory`, for a batch that is already cut, or several (of a vmap)."""
    need = _bytes_of(lay, num_groups, itemsize)
    if need > MEMORY_LIMIT:
        size = f"{need / 2**30:.3g}" if need < 2**100 else f"2^{need.bit_length() - 31}"
        raise MemoryError(
            f"Exact enumeration of {num_groups} groups x {lay.blocks[-1].end} queries x "
            f"{lay.num_spins} spins in float{8 * itemsize} "
            f"needs about {size} GiB, and the limit is {MEMORY_LIMIT / 2**30:.3g} GiB: "
            f"use fewer spins, or a sampling backend, or raise qattn.exact.memory.MEMORY_LIMIT."
        )


@lru_cache(maxsize=256)
def _bytes_of(lay: Layout, num_groups: int, itemsize: int) -> int:
    kept = sum(_kept(block, num_groups) for block in lay.blocks)
    backward = max(_backward(block, num_groups) for block in lay.blocks)
    # The compiled loops keep whole vectors of queries.
    loops = sum(_kept_by_loops(b, num_groups) for b in lay.blocks) if itemsize == 4 else 0
    # Fields, occupations and their gradients, some of them in both orders.
    spins = 6 * num_groups * lay.num_spins * (lay.blocks[-1].end + lay.num_spins)
    # 5% for what is not worth a term of its own.
    return 21 * itemsize * (max(kept + backward, loops) + spins) // 20


def _kept(block: Block, num_groups: int) -> int:
    """Numbers that a block's forward pass leaves, and its constant tables."""
    n, queries, states = block.num_spins, block.end - block.start, 1 << block.half
    features = _features(block)
    tables = states * (2 * features + 3 * block.half) + 5 * features**2 + 4 * n**2
    masks = 0
    if block.lengths is not None:
        masks = len(block.lengths) * queries * (2 * n + 2 * sum(part_sizes(block.half)))
    return num_groups * ((1 << n) + queries * (4 * states + 3 * n)) + tables + masks


def _kept_by_loops(block: Block, num_groups: int) -> int:
    """Numbers that the compiled loops keep of a block, in rows and columns of at least 16."""
    states, tiles = 1 << block.half, (block.end - block.start + 15) // 16
    row = max(16, states if states < 256 else states + 16)
    return num_groups * (states * row + 16 + 16 * tiles * (4 * states + 2 * block.num_spins + 1))


def _backward(block: Block, num_groups: int) -> int:
    """Numbers that are alive beside them in the block's backward pass."""
    n, queries, states = block.num_spins, block.end - block.start, 1 << block.half
    products = 3 * states * _features(block)
    return num_groups * ((1 << n) + queries * (4 * states + 4 * n) + products)


def _features(block: Block) -> int:
    """Spins of a half, their pairs, and 1."""
    return block.half * (block.half + 1) // 2 + 1
