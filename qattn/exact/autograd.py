"""The exact moments as one differentiable operation, with its fallbacks and its vmap rule."""

import inspect
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from qattn._clock import sampling_clock
from qattn._vmap import BackwardFunction, GroupwiseFunction
from qattn.exact import enumeration, factorised
from qattn.exact.factorised import Factors
from qattn.exact.layout import Layout, masks, tables

FLOAT32_COUPLING_LIMIT = 64.0
"""Largest Σ_{j<k} |J_jk| of a group that is computed in float32; float64 beyond.

The rounding of a state's log-weight grows with this sum (not with the fields, whose penalties are
summed without cancellation).
"""


class Solution(NamedTuple):
    """Log Z (if requested) and ⟨s⟩ in the order of a batch's layout, and each block's factors."""

    log_Z: Float[Tensor, "groups queries"] | None
    mean: Float[Tensor, "groups queries spins"]
    inverse_Z: Float[Tensor, "groups queries"]
    factors: list[Factors]


def solve(
    h: Float[Tensor, "g q n"],
    J: Float[Tensor, "g n n"],
    lay: Layout,
    wants_log_Z: bool = False,
) -> Solution:
    """Factorised moments: in float32 if that is exact to rounding, else in float64.

    Queries that even float64 cannot hold as a product (couplings and fields of hundreds that
    oppose each other) come from log space; their `inverse_Z` is 0.
    """
    weak = torch.linalg.vector_norm(J, 1, (1, 2)).amax() <= 2 * FLOAT32_COUPLING_LIMIT
    if h.dtype == torch.float32 and bool(weak):
        solution = _solve_blocks(h, J, lay, wants_log_Z)
        if bool((solution.inverse_Z > 0).all()):
            return solution
    solution = _solve_blocks(h.double(), J.double(), lay, wants_log_Z)
    uncertain = solution.inverse_Z == 0
    if bool(uncertain.any()):
        for name, value in (("h", h), ("J", J)):
            if not bool(value.isfinite().all()):
                raise ValueError(f"Argument `{name}` must be finite, but holds NaN or infinity.")
        for models in enumeration.separate_models(h, J, lay, uncertain):
            log_Z = enumeration.log_partition(models)
            zero, one = torch.zeros_like(models.h), torch.ones_like(log_Z)
            mean, _ = enumeration.weighted_moments(models, log_Z, zero, one)
            if solution.log_Z is not None:
                solution.log_Z[models.group, models.query] = log_Z
            solution.mean[models.group, models.query] = mean
    return solution


def _solve_blocks(h: Tensor, J: Tensor, lay: Layout, wants_log_Z: bool) -> Solution:
    n, copies = lay.num_spins, lay.copies(len(h))
    mean = h.new_empty(h.shape[0], n, h.shape[1])
    log_Z, factors = [], []
    for block in lay.blocks:
        q, m = slice(block.start, block.end), block.num_spins
        tab = tables(m, h.dtype, h.device)
        mask = masks(block, copies, h.dtype, h.device)
        mean[:, :m, q], log_Z_of_block, block_factors = factorised.forward(
            h[:, q, :m].mT, J[:, :m, :m], tab, mask, wants_log_Z
        )
        if m < n:
            mean[:, m:, q] = 0.0
        if log_Z_of_block is not None:
            log_Z.append(log_Z_of_block)
        factors.append(block_factors)
    inverse_Z = torch.cat([f.inverse_Z for f in factors], 1)
    return Solution(torch.cat(log_Z, 1) if log_Z else None, mean.mT, inverse_Z, factors)


class Moments(GroupwiseFunction):
    """⟨s⟩, then log Z if requested, then factors, with the queries in the order of the layout.

    The first two are differentiable in h and the (symmetric) J.
    """

    @staticmethod
    def forward(h: Tensor, J: Tensor, lay: Layout, wants_log_Z: bool) -> tuple[Tensor, ...]:
        """The :class:`Solution`, flat."""
        with sampling_clock.running(h.device), _full_precision(h.device):
            solution = solve(h, J, lay, wants_log_Z)
        log_Z = () if solution.log_Z is None else (solution.log_Z.to(h.dtype),)
        return solution.mean.to(h.dtype), *log_Z, *(x for f in solution.factors for x in f)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep the factors."""
        h, J, ctx.lay, ctx.wants_log_Z = inputs
        mean, *factors = output
        if ctx.wants_log_Z:
            factors = factors[1:]
        ctx.mark_non_differentiable(*factors)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(h, J, mean, *factors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Derivatives in h and J."""
        h, J, mean, *factors = ctx.saved_tensors
        grad_mean = torch.zeros_like(mean) if grads[0] is None else grads[0]
        grad_log_Z = grads[1] if ctx.wants_log_Z else None
        args = (ctx.lay, grad_log_Z, grad_mean, h, J, mean, *factors)
        # Under vmap, or for second derivatives (which raise), torch must see the backward pass as
        # an operation with rules of its own; otherwise a plain call spares its overhead.
        through_torch = torch.is_grad_enabled()
        run = _MomentsBackward.apply if through_torch else _MomentsBackward.forward
        grad_h, grad_J = run(*args)
        return grad_h, grad_J, None, None


# Without this, torch inspects the signature at each call, for longer than a small batch takes.
Moments.forward.__signature__ = inspect.signature(Moments.forward)  # type: ignore[attr-defined]


class _MomentsBackward(BackwardFunction):
    subject = "An exact moment"

    @staticmethod
    def forward(
        lay: Layout,
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
            grad_h, grad_J = _backward_blocks(lay, grad_log_Z, grad_mean, mean, factors)
            uncertain = torch.cat([f.inverse_Z for f in factors], 1) == 0
            for models in enumeration.separate_models(h, J, lay, uncertain):
                # f(s) = g·(s - ⟨s⟩) + dL/dlog Z, as in the factorised backward pass.
                g = grad_mean[models.group, models.query] * models.active
                c = -(g * mean[models.group, models.query]).sum(-1)
                if grad_log_Z is not None:
                    c = c + grad_log_Z[models.group, models.query]
                log_Z = enumeration.log_partition(models)
                first, second = enumeration.weighted_moments(models, log_Z, g.double(), c.double())
                grad_h[models.group, models.query] = first
                off_diagonal = tables(lay.num_spins, second.dtype, second.device).off_diagonal
                grad_J.index_add_(0, models.group, second * off_diagonal / 2)
        return grad_h.to(h.dtype), grad_J.to(J.dtype)


def _backward_blocks(
    lay: Layout,
    grad_log_Z: Tensor | None,
    grad_mean: Tensor,
    mean: Tensor,
    factors: list[Factors],
) -> tuple[Tensor, Tensor]:
    dtype, device = factors[0].K.dtype, mean.device
    G, Q, n = mean.shape
    copies = lay.copies(G)
    grad_h = torch.empty(G, n, Q, dtype=dtype, device=device)
    grad_J = torch.zeros(G, n, n, dtype=dtype, device=device)
    for block, block_factors in zip(lay.blocks, factors, strict=True):
        q, m = slice(block.start, block.end), block.num_spins
        block_h, block_J = factorised.backward(
            None if grad_log_Z is None else grad_log_Z[:, q].to(dtype),
            grad_mean[:, q, :m].mT.to(dtype),
            mean[:, q, :m].mT.to(dtype),
            block_factors,
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
