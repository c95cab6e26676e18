"""The vmap rule of operations on independent groups: members of a vmap become further groups.

An operation that treats the groups of an Ising batch separately can be run for all members of a
``torch.func.vmap`` in one call: M members with G groups each are a batch of M·G groups.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def fold(value: Any, dim: int | None, size: int) -> Any:
    """A tensor with the vmapped dimension `dim` merged into its first, the groups.

    A tensor that is not vmapped (`dim` is None) is repeated for each of the `size` members; a
    value that is no tensor stays as it is.
    """
    if not isinstance(value, Tensor):
        return value
    value = value.expand(size, *value.shape) if dim is None else value.movedim(dim, 0)
    return value.flatten(0, 1)


def over_groups(
    function: Any, size: int, in_dims: Sequence[int | None], args: Sequence[Any]
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Outputs of ``function.apply`` on all members at once, with the members' dimension first."""
    folded = (fold(a, dim, size) for a, dim in zip(args, in_dims, strict=True))
    outputs = function.apply(*folded)
    return tuple(x.unflatten(0, (size, -1)) for x in outputs), (0,) * len(outputs)
