"""The exact moments as one differentiable operation, with its fallbacks and its vmap rule."""

import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch._C._functorch import is_legacy_batchedtensor

from qattn import kernels
from qattn._clock import sampling_clock
from qattn._vmap import BackwardFunction, GroupwiseFunction
from qattn.exact.dense import compiled, enumeration, factorised
from qattn.exact.dense.factorised import Factors
from qattn.exact.dense.layout import Layout, arranged, masks, padded, restored, tables
from qattn.exact.memory import check_layout

FLOAT32_COUPLING_LIMIT = 64.0
"""Largest Σ_{j<k} |J_jk| of a group that is computed in float32; float64 beyond.

The rounding of a state's log-weight grows with this sum (not with the fields, whose penalties are
summed without cancellation).
"""


class Solution(NamedTuple):
    """What the factorised sums give, in the order of a batch's layout; log Z if requested.

    `scale` is 1/Z, or 1/(Z Σ_j ⟨n_j⟩) of normalised occupations; 0 where log space replaced it.
    """

    log_Z: Float[Tensor, "groups queries"] | None
    occupations: Float[Tensor, "groups queries spins"]
    scale: Float[Tensor, "groups queries"]
    factors: list[Factors]


def solve(
    h: Float[Tensor, "g q n"],
    J: Float[Tensor, "g n n"],
    lay: Layout,
    *,
    wants_log_Z: bool = False,
    normalize: bool = False,
) -> Solution:
    """Factorised moments: in float32 if that is exact to rounding, else in float64.

    Queries that even float64 cannot hold as a product (couplings and fields of hundreds that
    oppose each other) come from log space; their `scale` is 0. Values of a query that holds NaN or
    infinity are NaN.
    """
    weak = torch.linalg.vector_norm(J, 1, (1, 2)).amax() <= 2 * FLOAT32_COUPLING_LIMIT
    if h.dtype == torch.float32 and bool(weak):
        solution, accurate = _solve_blocks(h, J, lay, wants_log_Z, normalize)
        if bool(accurate):
            return solution
        del solution  # its memory goes to that in float64
    solution, _ = _solve_blocks(h.double(), J.double(), lay, wants_log_Z, normalize)
    for models in separate_models(h, J, lay, solution.scale == 0):
        where = models.group, models.query
        log_Z = enumeration.log_partition(models)
        if solution.log_Z is not None:
            solution.log_Z[where] = log_Z
        log_sum = enumeration.log_occupation(models) if normalize else log_Z
        solution.occupations[where] = enumeration.occupations(models, log_sum)
    return solution


def separate_models(
    h: Float[Tensor, "g q n"],
    J: Float[Tensor, "g n n"],
    lay: Layout,
    uncertain: Bool[Tensor, "g q"],
) -> Iterator[enumeration.Models]:
    """The queries that are left to log space: `uncertain`, and not for being NaN or infinite."""
    if bool(uncertain.any()):
        finite = h.isfinite().all(-1) & J.isfinite().all(-1).all(-1, keepdim=True)
        yield from enumeration.separate_models(h, J, lay, uncertain & finite)


def _solve_blocks(
    h: Tensor, J: Tensor, lay: Layout, wants_log_Z: bool, normalize: bool
) -> tuple[Solution, Bool[Tensor, ""]]:
    check_layout(lay, len(h), h.element_size())
    n, copies = lay.num_spins, lay.copies(len(h))
    occupations = h.new_empty(h.shape[0], n, h.shape[1])
    results = []
    for block in lay.blocks:
        q, m = slice(block.start, block.end), block.num_spins
        tab = tables(m, h.dtype, h.device)
        mask = masks(block, copies, h.dtype, h.device)
        result = factorised.forward(h[:, q, :m].mT, J[:, :m, :m], tab, mask, wants_log_Z, normalize)
        occupations[:, :m, q] = result.occupations
        if m < n:
            occupations[:, m:, q] = 0.0
        results.append(result)
    log_Z = [r.log_Z for r in results if r.log_Z is not None]
    factors = [r.factors for r in results]
    scale = torch.cat([f.scale for f in factors], 1)
    accurate = torch.stack([(scale > 0).all(), *(r.accurate for r in results)]).all()
    whole = torch.cat(log_Z, 1) if log_Z else None
    return Solution(whole, occupations.mT, scale, factors), accurate


class Moments(GroupwiseFunction):
    """⟨n⟩, then log Z if requested, then what the backward pass takes.

    The first two are differentiable in h and the (symmetric) J. If `normalize`, the occupations of
    a query are divided by their sum, and log Z cannot be requested.
    """

    @staticmethod
    def forward(
        h: Tensor, J: Tensor, lay: Layout, wants_log_Z: bool, normalize: bool
    ) -> tuple[Tensor, ...]:
        """By the compiled loops, with their workspace; or the :class:`Solution`, flat."""
        with sampling_clock.running(h.device), _full_precision(h.device):
            if kernels.usable(h, J):
                limit = FLOAT32_COUPLING_LIMIT
                found = compiled.forward(h, J, lay, wants_log_Z, normalize, limit)
                if found is not None:
                    return found
            x, y = arranged(h, lay), padded(J, lay)
            solution = solve(x, y, lay, wants_log_Z=wants_log_Z, normalize=normalize)
            up = restored(solution.occupations.to(h.dtype)[..., : h.shape[2]], lay)
            log_Z = () if solution.log_Z is None else (restored(solution.log_Z.to(h.dtype), lay),)
            return up, *log_Z, *(x for f in solution.factors for x in f)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep the factors."""
        h, J, ctx.lay, ctx.wants_log_Z, ctx.normalize = inputs
        occupations, *factors = output
        if ctx.wants_log_Z:
            factors = factors[1:]
        ctx.mark_non_differentiable(*factors)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(h, J, occupations, *factors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Derivatives in h and J."""
        h, J, occupations, *factors = ctx.saved_tensors
        if any(g is not None and is_legacy_batchedtensor(g) for g in grads):
            # torch.autograd.grad(is_grads_batched=True) knows operations of the dispatcher only:
            # that of qattn.exact.dense.operator.
            lengths = restored(ctx.lay.lengths().expand(len(h), -1), ctx.lay)
            wants_log_Z = ctx.wants_log_Z
            grad_h, grad_J = torch.ops.qattn.exact_moments_backward(
                grads[int(wants_log_Z)], h, J, lengths, wants_log_Z, ctx.normalize
            )
            return grad_h, grad_J, None, None, None
        grad = torch.zeros_like(occupations) if grads[0] is None else grads[0]
        grad_log_Z = grads[1] if ctx.wants_log_Z else None
        args = (ctx.lay, ctx.normalize, grad_log_Z, grad, h, J, occupations, *factors)
        # Under vmap, or for second derivatives (which raise), torch must see the backward pass as
        # an operation with rules of its own; otherwise a plain call spares its overhead.
        through_torch = torch.is_grad_enabled()
        run = MomentsBackward.apply if through_torch else MomentsBackward.forward
        grad_h, grad_J = run(*args)
        return grad_h, grad_J, None, None, None


# Without this, torch inspects the signature at each call, for longer than a small batch takes.
Moments.forward.__signature__ = inspect.signature(Moments.forward)  # type: ignore[attr-defined]


class MomentsBackward(BackwardFunction):
    """Gradients in h and J from those in log Z and ⟨n⟩, and the outputs of the forward pass."""

    subject = "An exact moment"

    @staticmethod
    def forward(
        lay: Layout,
        normalize: bool,
        grad_log_Z: Tensor | None,
        grad: Tensor,
        h: Tensor,
        J: Tensor,
        occupations: Tensor,
        *flat_factors: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """`flat_factors` are the factors of all blocks, or the workspace of the compiled loops."""
        with sampling_clock.running(h.device), _full_precision(h.device):
            if normalize:
                # r = n/Σn: dL/dn_j = (g_j - Σ_k g_k r_k)/Σn, and Σn is in the factors' scale.
                grad = grad - (grad * occupations).sum(-1, keepdim=True)
            if len(flat_factors) == 1:
                return compiled.backward(lay, grad_log_Z, grad, *flat_factors)
            per_block = len(Factors._fields)
            factors = [
                Factors(*flat_factors[i * per_block : (i + 1) * per_block])
                for i in range(len(lay.blocks))
            ]
            if lay.order is not None and grad_log_Z is not None:
                grad_log_Z = grad_log_Z[:, lay.order.to(h.device)]
            grad = arranged(grad, lay)
            grad_h, grad_J = _backward_blocks(lay, grad_log_Z, grad, factors)
            uncertain = torch.cat([f.scale for f in factors], 1) == 0
            for models in separate_models(arranged(h, lay), padded(J, lay), lay, uncertain):
                where = models.group, models.query
                c = None if grad_log_Z is None else grad_log_Z[where].double()
                first, second = enumeration.gradients(models, grad[where].double(), c, normalize)
                grad_h[where] = first
                grad_J.index_add_(0, models.group, second)
        n = h.shape[2]
        grad_h = restored(grad_h[..., :n].to(h.dtype), lay)
        return grad_h, grad_J[:, :n, :n].to(J.dtype)


def _backward_blocks(
    lay: Layout, grad_log_Z: Tensor | None, grad: Tensor, factors: list[Factors]
) -> tuple[Tensor, Tensor]:
    dtype, device = factors[0].K.dtype, grad.device
    G, Q, n = grad.shape
    copies = lay.copies(G)
    grad_h = torch.empty(G, n, Q, dtype=dtype, device=device)
    grad_J = torch.zeros(G, n, n, dtype=dtype, device=device)
    for block, block_factors in zip(lay.blocks, factors, strict=True):
        q, m = slice(block.start, block.end), block.num_spins
        block_h, block_J = factorised.backward(
            None if grad_log_Z is None else grad_log_Z[:, q].to(dtype),
            grad[:, q, :m].mT.to(dtype),
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
