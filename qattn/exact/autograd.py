"""The exact moments as one differentiable operation, with its fallbacks and its vmap rule."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from qattn.exact import enumeration, factorised
from qattn.exact.factorised import Factors, Moments
from qattn.exact.layout import Layout
from qattn.timing import sampling_clock

FLOAT32_COUPLING_LIMIT = 64.0
"""Largest Σ_{j<k} |J_jk| of a group that is computed in float32; float64 beyond.

The rounding of a state's log-weight grows with this sum (not with the fields, whose penalties are
summed without cancellation).
"""


def moments(
    h: Float[Tensor, "g q n"],
    J: Float[Tensor, "g n n"],
    active: Bool[Tensor, "#g q n"],
    lay: Layout,
) -> tuple[Float[Tensor, "g q"], Float[Tensor, "g q n"]]:
    """Log Z and ⟨s⟩ of queries in the order of `lay`; differentiable in h and J."""
    log_Z, mean, *_ = _Moments.apply(h, J, active, lay)  # type: ignore[no-untyped-call]
    return log_Z, mean


def solve(
    h: Float[Tensor, "g q n"],
    J: Float[Tensor, "g n n"],
    active: Bool[Tensor, "#g q n"],
    lay: Layout,
) -> tuple[Moments, Factors]:
    """Factorised moments: in float32 if that is exact to rounding, else in float64.

    Queries that even float64 cannot hold as a product (couplings and fields of hundreds that
    oppose each other) come from log space; `Factors.certain` is False there.
    """
    J = factorised.off_diagonal((J + J.mT) / 2)
    strong = J.abs().sum((1, 2)).amax() / 2 > FLOAT32_COUPLING_LIMIT
    if h.dtype == torch.float32 and not bool(strong):
        found, factors = factorised.forward(h, J, active, lay)
        if bool(factors.certain.all()):
            return found, factors
    found, factors = factorised.forward(h.double(), J.double(), active, lay)
    if bool(factors.certain.all()):
        return found, factors
    for name, value in (("h", h), ("J", J)):
        if not bool(value.isfinite().all()):
            raise ValueError(f"Argument `{name}` must be finite, but holds NaN or infinity.")
    for some in enumeration.rows(h, J, active, ~factors.certain):
        log_Z = enumeration.log_partition(some)
        zero, one = torch.zeros_like(some.h), torch.ones_like(log_Z)
        mean, _ = enumeration.weighted_moments(some, log_Z, zero, one)
        found.log_Z[some.group, some.query] = log_Z
        found.mean[some.group, some.query] = mean
    return found, factors


class _Moments(torch.autograd.Function):
    @staticmethod
    def forward(h: Tensor, J: Tensor, active: Tensor, lay: Layout) -> tuple[Tensor, ...]:
        with sampling_clock.running(h.device), torch.autocast(h.device.type, enabled=False):
            found, factors = solve(h, J, active, lay)
        return found.log_Z.to(h.dtype), found.mean.to(h.dtype), *factors

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        h, J, active, ctx.lay = inputs
        _, mean, *factors = output
        ctx.mark_non_differentiable(*factors)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(h, J, active, mean, *factors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        h, J, active, mean, *factors = ctx.saved_tensors
        grad_log_Z = torch.zeros_like(mean[..., 0]) if grads[0] is None else grads[0]
        grad_mean = torch.zeros_like(mean) if grads[1] is None else grads[1]
        grad_h, grad_J = _MomentsBackward.apply(  # type: ignore[no-untyped-call]
            grad_log_Z, grad_mean, h, J, active, mean, *factors, ctx.lay
        )
        return grad_h, grad_J, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: Sequence[int | None], *args: Any
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        return _vmap_over_groups(_Moments, info.batch_size, in_dims, args)


class _MomentsBackward(torch.autograd.Function):
    @staticmethod
    def forward(
        grad_log_Z: Tensor,
        grad_mean: Tensor,
        h: Tensor,
        J: Tensor,
        active: Tensor,
        mean: Tensor,
        *rest: Any,
    ) -> tuple[Tensor, Tensor]:
        *tensors, lay = rest
        factors = Factors(*tensors)
        dtype = factors.K.dtype
        with sampling_clock.running(h.device), torch.autocast(h.device.type, enabled=False):
            grad_mean = grad_mean.to(dtype).masked_fill(~active, 0.0)
            grad_log_Z = grad_log_Z.to(dtype)
            grad_h, grad_J = factorised.backward(
                grad_log_Z, grad_mean, mean.to(dtype), active, factors, lay
            )
            for some in enumeration.rows(h, J, active, ~factors.certain):
                g = grad_mean[some.group, some.query]
                c = grad_log_Z[some.group, some.query]
                c = c - (g * mean[some.group, some.query]).sum(-1)
                log_Z = enumeration.log_partition(some)
                first, second = enumeration.weighted_moments(some, log_Z, g, c)
                grad_h[some.group, some.query] = first
                grad_J.index_add_(0, some.group, factorised.off_diagonal(second) / 2)
        return grad_h.to(h.dtype), grad_J.to(J.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, ...]:
        raise NotImplementedError(
            "qattn.exact has first derivatives only. For second derivatives of a small batch, "
            "differentiate an explicit sum over its states."
        )

    @staticmethod
    def vmap(
        info: Any, in_dims: Sequence[int | None], *args: Any
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        return _vmap_over_groups(_MomentsBackward, info.batch_size, in_dims, args)


def _vmap_over_groups(
    function: Any, size: int, in_dims: Sequence[int | None], args: Sequence[Any]
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Models of different members share nothing, so a vmapped dimension is more groups."""

    def fold(arg: Any, dim: int | None) -> Any:
        if not isinstance(arg, Tensor) or (arg.dtype == torch.bool and arg.shape[0] == 1):
            return arg  # the layout; the mask of active spins, where all groups share it
        arg = arg.expand(size, *arg.shape) if dim is None else arg.movedim(dim, 0)
        return arg.flatten(0, 1)

    outputs = function.apply(*(fold(arg, dim) for arg, dim in zip(args, in_dims, strict=True)))
    return tuple(x.unflatten(0, (size, -1)) for x in outputs), (0,) * len(outputs)
