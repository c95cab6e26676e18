"""The exact moments as one opaque operation, for what only traces tensors.

``torch.compile``, ``torch.export`` and FakeTensorMode need an operation whose output's shape is
known without values; how the engine computes (which blocks, float32 or not) depends on values. Its
backward pass computes the forward pass again, because what that would leave depends on them too.
Elsewhere :class:`qattn.exact.dense.autograd.Moments` is called itself, which spares both that and
the overhead of an operation that is registered.
"""

from typing import Any

import torch
from torch import Tensor

from qattn import kernels
from qattn._vmap import fold
from qattn.exact.dense.autograd import Moments, MomentsBackward
from qattn.exact.dense.layout import cut


@torch.library.custom_op("qattn::exact_moments", mutates_args=())
def moments(
    h: torch.Tensor,
    J: torch.Tensor,
    lengths: torch.Tensor | None,
    wants_log_Z: bool,
    normalize: bool,
) -> torch.Tensor:
    """Log Z, shape (groups, queries), if requested; else occupations, in the shape of h."""
    lay = cut(lengths, *h.shape, by_loops=kernels.usable(h, J))
    n, log_Z, *_ = Moments.forward(h, J, lay, wants_log_Z, normalize)
    return _owned(log_Z if wants_log_Z else n)


@torch.library.custom_op("qattn::exact_moments_backward", mutates_args=())
def gradients(
    grad: torch.Tensor,
    h: torch.Tensor,
    J: torch.Tensor,
    lengths: torch.Tensor | None,
    wants_log_Z: bool,
    normalize: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients in h and J."""
    lay = cut(lengths, *h.shape, by_loops=kernels.usable(h, J))
    occupations, *factors = Moments.forward(h, J, lay, wants_log_Z, normalize)
    grad_log_Z, grad_n = (grad, torch.zeros_like(h)) if wants_log_Z else (None, grad)
    if wants_log_Z:
        factors = factors[1:]
    grad_h, grad_J = MomentsBackward.forward(
        lay, normalize, grad_log_Z, grad_n, h, J, occupations, *factors
    )
    return _owned(grad_h), _owned(grad_J)


@moments.register_fake
def _(h: Tensor, J: Tensor, lengths: Tensor | None, wants_log_Z: bool, normalize: bool) -> Tensor:
    return h.new_empty(h.shape[:2] if wants_log_Z else h.shape)


@gradients.register_fake
def _(grad: Tensor, h: Tensor, J: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return h.new_empty(h.shape), J.new_empty(J.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    h, J, lengths, ctx.wants_log_Z, ctx.normalize = inputs
    ctx.save_for_backward(h, J, lengths)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grads = gradients(grad, *ctx.saved_tensors, ctx.wants_log_Z, ctx.normalize)
    return *grads, None, None, None


moments.register_autograd(_backward, setup_context=_setup_context)


@moments.register_vmap
def _(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Tensor, int]:
    return moments(*_folded(info, in_dims, *args)).unflatten(0, (info.batch_size, -1)), 0


@gradients.register_vmap
def _(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[tuple[Tensor, ...], Any]:
    grads = gradients(*_folded(info, in_dims, *args))
    return tuple(g.unflatten(0, (info.batch_size, -1)) for g in grads), (0, 0)


def _owned(x: Tensor) -> Tensor:
    """Memory of its own and in order, as the fake operations have."""
    return x.clone(memory_format=torch.contiguous_format)


def _folded(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> list[Any]:
    """Members as further groups; lengths that all groups share stay as they are."""
    return [
        x
        if isinstance(x, Tensor) and x.ndim == 1 and dim is None
        else fold(x, dim, info.batch_size)
        for x, dim in zip(args, in_dims, strict=True)
    ]
