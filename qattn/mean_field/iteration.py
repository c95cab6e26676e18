"""Fixed points of many small systems at once, by Anderson acceleration with damping."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

DEPTH = 4
"""Earlier steps that are combined."""

LARGEST_STEP = 2.0
"""Largest change of a variable in a step."""


class FixedPoint(NamedTuple):
    """Where an iteration ended.

    Attributes:
        state: The last states.
        residual: Largest change that a further step would make, as `update` measures it.
        iterations: Steps that were taken.
    """

    state: Float[Tensor, "groups queries k"]
    residual: Float[Tensor, "groups queries"]
    iterations: Int[Tensor, "groups queries"]


def iterate(
    update: Callable[..., tuple[Tensor, Tensor]],
    state: Float[Tensor, "groups queries k"],
    given: tuple[Tensor, ...],
    tolerance: float,
    max_iterations: int,
) -> FixedPoint:
    r"""Solve f(x) = 0 of every query by x ← x + α f - (ΔX + α ΔF) γ.

    ΔX and ΔF are the last changes of x and f, and γ minimises \|f - ΔF γ\| (Anderson's method;
    Walker and Ni, SIAM J. Numer. Anal. 49, 1715 (2011)). A query whose \|f\| grows forgets its past
    and halves its damping α. A query leaves when its residual is within the tolerance, or NaN.

    Args:
        update: From states and what is given of the same queries: f, and the residual.
        state: States to start from.
        given: Tensors whose first axes are groups and queries.
        tolerance: Residual at which a query is solved.
        max_iterations: Steps after which one gives up.
    """
    G, Q, _ = state.shape
    tiny = torch.finfo(state.dtype).tiny
    result = state.clone()
    residual = state.new_full((G, Q), torch.inf)
    iterations = torch.full((G, Q), max_iterations, device=state.device)
    place = torch.arange(Q, device=state.device).expand(G, Q)
    damping = state.new_ones(G, Q, 1)
    past: list[Tensor] = []  # state, f and the histories ΔX, ΔF of the last step
    for count in range(max_iterations + 1):
        f, left = update(state, *given)
        running = left > tolerance
        residual.scatter_(1, place, left)
        finished = torch.where(running, max_iterations, count)
        iterations.scatter_(1, place, torch.minimum(iterations.gather(1, place), finished))
        most = int(running.sum(1).max())
        if most == 0 or count == max_iterations:
            break
        if most <= running.shape[1] // 2:  # the queries that are done leave
            result.scatter_(1, place.unsqueeze(-1).expand_as(state), state)
            kept = running.int().argsort(1, descending=True)[:, :most]
            place, running = place.gather(1, kept), running.gather(1, kept)
            state, f, damping = (_of(x, kept) for x in (state, f, damping))
            given, past = tuple(_of(x, kept) for x in given), [_of(x, kept) for x in past]
        step, damping, past = _step(state, f, damping, past, tiny)
        state = torch.where(running.unsqueeze(-1), state + step, state)
    result.scatter_(1, place.unsqueeze(-1).expand_as(state), state)
    return FixedPoint(result, residual, iterations)


def _step(
    x: Tensor, f: Tensor, damping: Tensor, past: list[Tensor], tiny: float
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The step from x, the damping, and the past of the next step."""
    if not past:
        return damping * f, damping, [x, f, *(x.new_zeros(*x.shape[:2], DEPTH, x.shape[2]),) * 2]
    old_x, old_f, X, F = past
    grown = f.norm(dim=-1, keepdim=True) > 1.2 * old_f.norm(dim=-1, keepdim=True)
    damping = torch.where(grown, (damping / 2).clamp_min(0.05), (damping * 1.2).clamp_max(1.0))
    X = torch.cat([X[:, :, 1:], (x - old_x).unsqueeze(2)], 2).masked_fill(grown.unsqueeze(-1), 0)
    F = torch.cat([F[:, :, 1:], (f - old_f).unsqueeze(2)], 2).masked_fill(grown.unsqueeze(-1), 0)
    # Normal equations, regularised by what rounding leaves of them; empty places keep γ = 0.
    normal = F @ F.mT
    size = normal.diagonal(dim1=-2, dim2=-1)
    ridge = 10 * torch.finfo(x.dtype).eps * size.sum(-1, keepdim=True) + tiny
    normal = normal + torch.diag_embed(ridge.expand_as(size))
    gamma = torch.linalg.solve_ex(normal, F @ f.unsqueeze(-1))[0]
    step = damping * f - ((X + damping.unsqueeze(-1) * F).mT @ gamma).squeeze(-1)
    step = torch.where(step.isfinite(), step, damping * f).clamp(-LARGEST_STEP, LARGEST_STEP)
    return step, damping, [x, f, X, F]


def _of(x: Tensor, kept: Tensor) -> Tensor:
    """The rows of some queries of each group."""
    index = kept.view(*kept.shape, *(1,) * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])
    return x.gather(1, index)
