"""The vmap rule of operations whose models share nothing: a vmapped dimension is more groups."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def fold(value: Any, dim: int | None, size: int) -> Any:
    """Tensors get the vmapped dimension in front of their groups; other values stay."""
    if not isinstance(value, Tensor):
        return value
    value = value.expand(size, *value.shape) if dim is None else value.movedim(dim, 0)
    return value.flatten(0, 1)


def over_groups(
    function: Any, size: int, in_dims: Sequence[int | None], args: Sequence[Any]
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """``function.apply`` with all members of a vmap as groups of one call."""
    outputs = function.apply(*(fold(a, d, size) for a, d in zip(args, in_dims, strict=True)))
    return tuple(x.unflatten(0, (size, -1)) for x in outputs), (0,) * len(outputs)
