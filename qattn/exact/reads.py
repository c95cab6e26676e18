r"""Independent exact reads: no Markov chain, so no burn-in and no autocorrelation.

A read draws a from p(a) ∝ u_a (Kv)_a and then b from p(b | a) ∝ K_ab v_b, each by inverting a
cumulative sum (in float64): 2^(n/2) work a read after the shared matrix product. Where that is
more than all states (many reads of few spins), (a, b) is drawn at once from the 2^n weights
u_a K_ab v_b.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qattn.exact import enumeration
from qattn.exact.autograd import Solution
from qattn.exact.factorised import Factors
from qattn.exact.layout import Layout
from qattn.states import invert_cdf, states

CHUNK_ELEMENTS = 1 << 24
"""Elements of the largest temporary tensor."""

CHUNK_JOINT = 1 << 18
"""The same for tables of 2^n weights, which are read at random and belong in the cache."""


def draw(
    h: Float[Tensor, "g q n"],
    J: Float[Tensor, "g n n"],
    lay: Layout,
    found: Solution,
    uniforms: Float[Tensor, "two g q reads"],
) -> Int[Tensor, "g q reads n"]:
    """Spins in {-1, +1} as int8; `uniforms` holds two numbers in [0, 1) for each read."""
    G, Q, n = h.shape
    reads = uniforms.shape[3]
    spins = torch.full((G, Q, reads, n), -1, dtype=torch.int8, device=h.device)
    for block, factors in zip(lay.blocks, found.factors, strict=True):
        S = states(block.half, torch.int8, h.device)
        joint = reads > len(S)
        step = CHUNK_JOINT // (G * len(S) ** 2) if joint else CHUNK_ELEMENTS // (G * reads * len(S))
        step = max(1, step)
        for start in range(block.start, block.end, step):
            q = slice(start, min(start + step, block.end))
            local = slice(start - block.start, q.stop - block.start)
            method = _draw_jointly if joint else _draw_halves
            a, b = method(factors, local, uniforms[:, :, q])
            spins[:, q, :, : block.num_spins] = torch.cat([S[a], S[b]], -1)
    for some in enumeration.rows(h, J, lay, 1, found.inverse_Z == 0):
        for i, (g, q) in enumerate(zip(some.group.tolist(), some.query.tolist(), strict=True)):
            one = enumeration.Rows(*(x[i : i + 1] for x in some))
            spins[g, q] = _draw_in_log_space(one, uniforms[0, g, q])
    return spins


def _draw_halves(
    factors: Factors, q: slice, uniforms: Float[Tensor, "two g q reads"]
) -> tuple[Int[Tensor, "g q reads"], Int[Tensor, "g q reads"]]:
    K = factors.K
    u, v = factors.uv[..., q].mT.unbind(1)
    a = invert_cdf(u * factors.Kuv[:, 0, :, q].mT, uniforms[0])
    group = torch.arange(K.shape[0], device=K.device)[:, None, None]
    rows = K[group, a] * v.unsqueeze(2)
    b = invert_cdf(rows, uniforms[1].unsqueeze(-1)).squeeze(-1)
    return a, b


def _draw_jointly(
    factors: Factors, q: slice, uniforms: Float[Tensor, "two g q reads"]
) -> tuple[Int[Tensor, "g q reads"], Int[Tensor, "g q reads"]]:
    u, v = factors.uv[..., q].mT.unbind(1)
    weights = (factors.K.unsqueeze(1) * v.unsqueeze(2)).mul_(u.unsqueeze(-1))
    state = invert_cdf(weights.flatten(2), uniforms[0])
    return state // v.shape[2], state % v.shape[2]


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
