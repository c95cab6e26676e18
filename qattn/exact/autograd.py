"""The exact moments as one differentiable operation, with its fallbacks and its vmap rule."""

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from qattn._clock import sampling_clock
from qattn._vmap import over_groups
from qattn.exact import enumeration, factorised
from qattn.exact.factorised import Factors
from qattn.exact.layout import Layout, masks, tables

FLOAT32_COUPLING_LIMIT = 64.0
"""Largest Σ_{j<k} |J_jk| of a group that is computed in float32; float64 beyond.

The rounding of a state's log-weight grows with this sum (not with the fields, whose penalties are
summed without cancellation).
"""


class Solution(NamedTuple):
    """log Z (if wanted) and ⟨s⟩ in the order of a batch's layout, and the factors of each block."""

    log_Z: Float[Tensor, "groups queries"] | None
    mean: Float[Tensor, "groups queries spins"]
    inverse_Z: Float[Tensor, "groups queries"]
    factors: list[Factors]


def log_partition_of_layout(
    h: Float[Tensor, "g q n"], J: Float[Tensor, "g n n"], lay: Layout
) -> Float[Tensor, "g q"]:
    """Log Z with the queries in the order of `lay`; differentiable in h and the (symmetric) J."""
    log_Z: Tensor
    _, log_Z, *_ = _Moments.apply(h, J, lay, 1, True)  # type: ignore[no-untyped-call]
    return log_Z


def mean_of_layout(
    h: Float[Tensor, "g q n"], J: Float[Tensor, "g n n"], lay: Layout
) -> Float[Tensor, "g q n"]:
    """⟨s⟩ with the queries in the order of `lay`; differentiable in h and the (symmetric) J."""
    mean: Tensor
    mean, *_ = _Moments.apply(h, J, lay, 1, False)  # type: ignore[no-untyped-call]
    return mean


def solve(
    h: Float[Tensor, "g q n"],
    J: Float[Tensor, "g n n"],
    lay: Layout,
    copies: int = 1,
    wants_log_Z: bool = False,
) -> Solution:
    """Factorised moments: in float32 if that is exact to rounding, else in float64.

    Queries that even float64 cannot hold as a product (couplings and fields of hundreds that
    oppose each other) come from log space; their `inverse_Z` is 0. `copies` is how often the
    groups of the layout are repeated in h.
    """
    weak = torch.linalg.vector_norm(J, 1, (1, 2)).amax() <= 2 * FLOAT32_COUPLING_LIMIT
    if h.dtype == torch.float32 and bool(weak):
        found = _solve_blocks(h, J, lay, copies, wants_log_Z)
        if bool((found.inverse_Z > 0).all()):
            return found
    found = _solve_blocks(h.double(), J.double(), lay, copies, wants_log_Z)
    uncertain = found.inverse_Z == 0
    if bool(uncertain.any()):
        for name, value in (("h", h), ("J", J)):
            if not bool(value.isfinite().all()):
                raise ValueError(f"Argument `{name}` must be finite, but holds NaN or infinity.")
        for some in enumeration.rows(h, J, lay, copies, uncertain):
            log_Z = enumeration.log_partition(some)
            zero, one = torch.zeros_like(some.h), torch.ones_like(log_Z)
            mean, _ = enumeration.weighted_moments(some, log_Z, zero, one)
            if found.log_Z is not None:
                found.log_Z[some.group, some.query] = log_Z
            found.mean[some.group, some.query] = mean
    return found


def _solve_blocks(h: Tensor, J: Tensor, lay: Layout, copies: int, wants_log_Z: bool) -> Solution:
    n = lay.num_spins
    mean = h.new_empty(h.shape[0], n, h.shape[1])
    log_Z, factors = [], []
    for block in lay.blocks:
        q, m = slice(block.start, block.end), block.num_spins
        tab = tables(m, h.dtype, h.device)
        mask = masks(block, copies, h.dtype, h.device)
        found, left = factorised.forward(h[:, q, :m].mT, J[:, :m, :m], tab, mask, wants_log_Z)
        mean[:, :m, q] = found.mean
        if m < n:
            mean[:, m:, q] = 0.0
        if found.log_Z is not None:
            log_Z.append(found.log_Z)
        factors.append(left)
    inverse_Z = torch.cat([left.inverse_Z for left in factors], 1)
    return Solution(torch.cat(log_Z, 1) if log_Z else None, mean.mT, inverse_Z, factors)


class _Moments(torch.autograd.Function):
    @staticmethod
    def forward(
        h: Tensor, J: Tensor, lay: Layout, copies: int, wants_log_Z: bool
    ) -> tuple[Tensor, ...]:
        with sampling_clock.running(h.device), _full_precision(h.device):
            found = solve(h, J, lay, copies, wants_log_Z)
        log_Z = () if found.log_Z is None else (found.log_Z.to(h.dtype),)
        return found.mean.to(h.dtype), *log_Z, *(x for left in found.factors for x in left)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        h, J, ctx.lay, ctx.copies, ctx.wants_log_Z = inputs
        mean, *factors = output
        if ctx.wants_log_Z:
            factors = factors[1:]
        ctx.mark_non_differentiable(*factors)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(h, J, mean, *factors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        h, J, mean, *factors = ctx.saved_tensors
        grad_mean = torch.zeros_like(mean) if grads[0] is None else grads[0]
        grad_log_Z = grads[1] if ctx.wants_log_Z else None
        args = (ctx.lay, ctx.copies, grad_log_Z, grad_mean, h, J, mean, *factors)
        # Only transforms and second derivatives need this to be an operation of its own.
        through_torch = torch.is_grad_enabled()
        run = _MomentsBackward.apply if through_torch else _MomentsBackward.forward
        grad_h, grad_J = run(*args)
        return grad_h, grad_J, None, None, None

    @staticmethod
    def vmap(
        info: Any,
        in_dims: Sequence[int | None],
        h: Tensor,
        J: Tensor,
        lay: Layout,
        copies: int,
        wants_log_Z: bool,
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        size = info.batch_size
        return over_groups(_Moments, size, in_dims, (h, J, lay, copies * size, wants_log_Z))


# Or else torch inspects the signature anew at each call, for longer than a small batch takes.
_Moments.forward.__signature__ = inspect.signature(_Moments.forward)  # type: ignore[attr-defined]


class _MomentsBackward(torch.autograd.Function):
    @staticmethod
    def forward(
        lay: Layout,
        copies: int,
        grad_log_Z: Tensor | None,
        grad_mean: Tensor,
        h: Tensor,
        J: Tensor,
        mean: Tensor,
        *flat_factors: Tensor,
    ) -> tuple[Tensor, Tensor]:
        per_block = len(Factors._fields)
        factors = [
            Factors(*flat_factors[i * per_block : (i + 1) * per_block])
            for i in range(len(lay.blocks))
        ]
        with sampling_clock.running(h.device), _full_precision(h.device):
            grad_h, grad_J = _backward_blocks(lay, copies, grad_log_Z, grad_mean, mean, factors)
            uncertain = torch.cat([left.inverse_Z for left in factors], 1) == 0
            for some in enumeration.rows(h, J, lay, copies, uncertain):
                g = grad_mean[some.group, some.query] * some.active
                c = -(g * mean[some.group, some.query]).sum(-1)
                if grad_log_Z is not None:
                    c = c + grad_log_Z[some.group, some.query]
                log_Z = enumeration.log_partition(some)
                first, second = enumeration.weighted_moments(some, log_Z, g.double(), c.double())
                grad_h[some.group, some.query] = first
                off_diagonal = tables(lay.num_spins, second.dtype, second.device).off_diagonal
                grad_J.index_add_(0, some.group, second * off_diagonal / 2)
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
        info: Any, in_dims: Sequence[int | None], lay: Layout, copies: int, *args: Tensor | None
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        size = info.batch_size
        return over_groups(_MomentsBackward, size, in_dims, (lay, copies * size, *args))


def _backward_blocks(
    lay: Layout,
    copies: int,
    grad_log_Z: Tensor | None,
    grad_mean: Tensor,
    mean: Tensor,
    factors: list[Factors],
) -> tuple[Tensor, Tensor]:
    dtype, device = factors[0].K.dtype, mean.device
    G, Q, n = mean.shape
    grad_h = torch.empty(G, n, Q, dtype=dtype, device=device)
    grad_J = torch.zeros(G, n, n, dtype=dtype, device=device)
    for block, left in zip(lay.blocks, factors, strict=True):
        q, m = slice(block.start, block.end), block.num_spins
        block_h, block_J = factorised.backward(
            None if grad_log_Z is None else grad_log_Z[:, q].to(dtype),
            grad_mean[:, q, :m].mT.to(dtype),
            mean[:, q, :m].mT.to(dtype),
            left,
            tables(m, dtype, device),
            masks(block, copies, dtype, device),
        )
        grad_h[:, :m, q] = block_h
        if m < n:
            grad_h[:, m:, q] = 0.0
        grad_J[:, :m, :m] += block_J
    return grad_h.mT, grad_J


def _full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Autocast off: its half precision has no room for Boltzmann weights."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
