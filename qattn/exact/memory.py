"""What exact enumeration needs, stated before it is allocated."""

MEMORY_LIMIT = 8 * 2**30
"""Bytes that one call may need; assign to ``qattn.exact.memory.MEMORY_LIMIT`` to change it."""


def required_bytes(num_groups: int, num_queries: int, num_spins: int, itemsize: int) -> int:
    """Bytes of the largest tensors that are alive at once in a forward and backward pass.

    Three tables of 2^n numbers per group (K, its gradient, one temporary) and ten vectors of
    2^(n/2) numbers per query.
    """
    per_group = 3 * (1 << num_spins)
    per_query = 10 * (1 << (num_spins + 1) // 2)
    return num_groups * itemsize * (per_group + num_queries * per_query)


def check_memory(num_groups: int, num_queries: int, num_spins: int, itemsize: int) -> None:
    """Raise a MemoryError that states the need and the way out if a call would exceed the limit."""
    need = required_bytes(num_groups, num_queries, num_spins, itemsize)
    if need > MEMORY_LIMIT:
        raise MemoryError(
            f"Exact enumeration of {num_groups} groups x {num_queries} queries x {num_spins} spins "
            f"needs about {need / 2**30:.3g} GiB, and the limit is {MEMORY_LIMIT / 2**30:.3g} GiB: "
            f"use fewer spins, or a sampling backend, or raise qattn.exact.memory.MEMORY_LIMIT."
        )
