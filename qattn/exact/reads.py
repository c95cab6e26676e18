r"""Independent exact reads: no Markov chain, so no burn-in and no autocorrelation.

A read draws a from p(a) ∝ u_a (Kv)_a and then b from p(b | a) ∝ K_ab v_b, each by inverting a
cumulative sum (in float64): 2^(n/2) work a read after the shared matrix product. Where that is
more than all states (many reads of few spins), (a, b) is drawn at once from the 2^n weights
u_a K_ab v_b.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qattn.exact import enumeration
from qattn.exact.factorised import Factors
from qattn.exact.layout import Layout, states

CHUNK_ELEMENTS = 1 << 24
"""Elements of the largest temporary tensor."""

CHUNK_JOINT = 1 << 18
"""The same for tables of 2^n weights, which are read at random and belong in the cache."""


def draw(
    h: Float[Tensor, "g q n"],
    J: Float[Tensor, "g n n"],
    active: Bool[Tensor, "#g q n"],
    factors: Factors,
    lay: Layout,
    uniforms: Float[Tensor, "two g q reads"],
) -> Int[Tensor, "g q reads n"]:
    """Spins in {-1, +1} as int8; `uniforms` holds two numbers in [0, 1) for each read."""
    a, b = torch.empty(uniforms.shape[1:], dtype=torch.int64, device=h.device).repeat(2, 1, 1, 1)
    (G, rows, columns), reads = factors.K.shape, uniforms.shape[3]
    for start, end, reachable in lay.blocks:
        joint = reads * columns > rows * reachable
        step = CHUNK_JOINT // (G * rows * reachable) if joint else 0
        step = max(1, step or CHUNK_ELEMENTS // (G * reads * columns))
        for lo in range(start, end, step):
            q = slice(lo, min(lo + step, end))
            if joint:
                a[:, q], b[:, q] = _draw_jointly(factors, q, reachable, uniforms[0, :, q])
            else:
                a[:, q], b[:, q] = _draw_halves(factors, q, uniforms[:, :, q])
    spins = torch.cat(
        [
            states(lay.spins_a, torch.int8, h.device)[a],
            states(lay.spins_b, torch.int8, h.device)[b],
        ],
        -1,
    )
    for some in enumeration.rows(h, J, active, ~factors.certain):
        for i, (g, q) in enumerate(zip(some.group, some.query, strict=True)):
            one = enumeration.Rows(*(x[i : i + 1] for x in some))
            spins[g, q] = _draw_in_log_space(one, uniforms[0, g, q])
    return spins


def _draw_halves(
    factors: Factors, q: slice, uniforms: Float[Tensor, "two g q reads"]
) -> tuple[Int[Tensor, "g q reads"], Int[Tensor, "g q reads"]]:
    u, v, Kv = (x[:, :, q].mT for x in (factors.u, factors.v, factors.Kv))
    K = factors.K
    a = invert_cdf(u * Kv, uniforms[0])
    group = torch.arange(K.shape[0], device=K.device)[:, None, None]
    rows = K[group, a] * v.unsqueeze(2)
    b = invert_cdf(rows, uniforms[1].unsqueeze(-1)).squeeze(-1)
    return a, b


def _draw_jointly(
    factors: Factors, q: slice, reachable: int, uniforms: Float[Tensor, "g q reads"]
) -> tuple[Int[Tensor, "g q reads"], Int[Tensor, "g q reads"]]:
    u, v = factors.u[:, :, q].mT, factors.v[:, :reachable, q].mT
    weights = factors.K[:, None, :, :reachable] * v.unsqueeze(2)
    state = invert_cdf(weights.mul_(u.unsqueeze(-1)).flatten(2), uniforms)
    return state // reachable, state % reachable


def _draw_in_log_space(one: enumeration.Rows, uniforms: Float[Tensor, " r"]) -> Tensor:
    """Reads of one strongly coupled query: chunk by chunk, then the state within the chunk."""
    log_sums = torch.cat([w.logsumexp(-1) for _, w in enumeration.log_weights(one)])
    total = log_sums.logsumexp(0)
    cumulative = (log_sums - total).exp().cumsum(0)
    target = uniforms.double() * cumulative[-1]
    chunk = torch.searchsorted(cumulative, target, right=True).clamp_max(len(cumulative) - 1)
    out = torch.empty(len(target), one.h.shape[1], dtype=torch.int8, device=one.h.device)
    for c, (s, weights) in enumerate(enumeration.log_weights(one)):
        here = chunk == c
        if not bool(here.any()):
            continue
        within = (weights[0] - total).exp().cumsum(0)
        before = cumulative[c - 1] if c else 0.0
        index = torch.searchsorted(within, target[here] - before, right=True)
        out[here] = s[index.clamp_max(len(s) - 1)].to(torch.int8)
    return out


def invert_cdf(
    weights: Float[Tensor, "*batch states"], uniforms: Float[Tensor, "*batch reads"]
) -> Int[Tensor, "*batch reads"]:
    """Index i with probability weights_i / Σ weights; never one of weight zero."""
    cumulative = weights.cumsum(-1, dtype=torch.float64)
    total = cumulative[..., -1:]
    # Rounding in target can reach the total: stay below the last state of positive weight.
    below = torch.nextafter(total, torch.zeros_like(total))
    target = torch.minimum(uniforms.double() * total, below)
    index = torch.searchsorted(cumulative, target, right=True)
    return index.clamp_max(weights.shape[-1] - 1)  # no weights at all: redrawn in log space
