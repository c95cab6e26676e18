"""The vmap rule of operations on independent groups: members of a vmap become further groups.

An operation that treats the groups of an Ising batch separately can be run for all members of a
``torch.func.vmap`` in one call: M members with G groups each are a batch of M·G groups.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import get_unwrapped, is_functorch_wrapped_tensor
from torch.autograd import forward_ad


class GroupwiseFunction(torch.autograd.Function):
    """An operation on separate groups, the first axis of every tensor that it takes and returns."""

    @classmethod
    def run(cls, *args: Any) -> Any:
        """What ``apply`` gives, without its overhead where nothing can be differentiated."""
        transformed = torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
        if torch.is_grad_enabled() or transformed:
            return cls.apply(*args)  # type: ignore[no-untyped-call]
        return cls.forward(*args)

    @classmethod
    def vmap(
        cls, info: Any, in_dims: Sequence[Any], *args: Any
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """All members in one call, as further groups."""
        folded = (
            fold(a, dim, info.batch_size) if isinstance(a, Tensor) else a
            for a, dim in zip(args, in_dims, strict=True)
        )
        outputs = cls.apply(*folded)  # type: ignore[no-untyped-call]
        members = tuple(x.unflatten(0, (info.batch_size, -1)) for x in outputs)
        return members, (0,) * len(outputs)


class BackwardFunction(GroupwiseFunction):
    """A backward pass as an operation of its own, which has a vmap rule but no derivative."""

    subject = "This operation"

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Nothing is kept for a derivative."""

    @classmethod
    def backward(cls, ctx: Any, *grads: Tensor) -> tuple[None, ...]:
        """Refuse second derivatives."""
        raise NotImplementedError(
            f"{cls.subject} has first derivatives only. For second derivatives of a small batch, "
            f"differentiate an explicit sum over its states."
        )


def fold(value: Any, dim: int | None, size: int) -> Any:
    """A tensor with the vmapped dimension `dim` merged into its first, the groups.

    A tensor that is not vmapped (`dim` is None) is repeated for each of the `size` members; a
    value that is no tensor stays as it is.
    """
    if not isinstance(value, Tensor):
        return value
    value = value.expand(size, *value.shape) if dim is None else value.movedim(dim, 0)
    return value.flatten(0, 1)


def unwrapped(x: Tensor) -> Tensor:
    """A tensor that is no member, out of what ``torch.func`` wraps around all that it sees."""
    while is_functorch_wrapped_tensor(x):
        x = get_unwrapped(x)
    return x


def listed(x: Tensor) -> list[Any]:
    """The numbers of a tensor that is no member; PyTorch 2.6 does not give them inside vmap."""
    with torch._C._DisableFuncTorch():
        numbers: list[Any] = unwrapped(x).tolist()
    return numbers
