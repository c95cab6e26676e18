r"""Independent exact reads: no Markov chain, so no burn-in and no autocorrelation.

A read draws a from p(a) ∝ u_a (Kv)_a and then b from p(b | a) ∝ K_ab v_b, each by inverting a
cumulative sum (in float64): 2^(n/2) work a read after the shared matrix product. Where that is
more than all states (many reads of few spins), (a, b) is drawn at once from the 2^n weights
u_a K_ab v_b.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qattn.exact.dense import enumeration
from qattn.exact.dense.autograd import Solution
from qattn.exact.dense.factorised import Factors
from qattn.exact.dense.layout import Layout
from qattn.ising.states import invert_cdf, states

CHUNK_ELEMENTS = 1 << 24
"""Elements of the largest temporary tensor."""

CHUNK_JOINT = 1 << 18
"""Elements of tables of 2^n weights, which are accessed at random and belong in the cache."""


def draw(
    h: Float[Tensor, "g q n"],
    J: Float[Tensor, "g n n"],
    lay: Layout,
    solution: Solution,
    uniforms: Float[Tensor, "two g q reads"],
) -> Int[Tensor, "g q reads n"]:
    """Spins in {-1, +1} as int8, in the order of `lay`, from two numbers in [0, 1) a read."""
    G, Q, n = h.shape
    reads = uniforms.shape[3]
    spins = torch.full((G, Q, reads, n), -1, dtype=torch.int8, device=h.device)
    for block, factors in zip(lay.blocks, solution.factors, strict=True):
        S = states(block.half, torch.int8, h.device)
        # Whether drawing (a, b) at once is less work, and how many queries fit at a time.
        joint = reads > len(S)
        step = CHUNK_JOINT // (G * len(S) ** 2) if joint else CHUNK_ELEMENTS // (G * reads * len(S))
        step = max(1, step)
        for start in range(block.start, block.end, step):
            q = slice(start, min(start + step, block.end))
            local = slice(start - block.start, q.stop - block.start)
            method = _draw_jointly if joint else _draw_halves
            a, b = method(factors, local, uniforms[:, :, q])
            spins[:, q, :, : block.num_spins] = torch.cat([S[a], S[b]], -1)
    for models in enumeration.separate_models(h, J, lay, solution.scale == 0):
        for i, (g, q) in enumerate(zip(models.group.tolist(), models.query.tolist(), strict=True)):
            model = enumeration.Models(*(x[i : i + 1] for x in models))
            spins[g, q] = _draw_in_log_space(model, uniforms[0, g, q])
    return spins


def _draw_halves(
    factors: Factors, q: slice, uniforms: Float[Tensor, "two g q reads"]
) -> tuple[Int[Tensor, "g q reads"], Int[Tensor, "g q reads"]]:
    """Numbers of the states a and b of each read: a from its marginal, then b given a."""
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
    """Numbers of the states a and b of each read, from the table of all pairs."""
    u, v = factors.uv[..., q].mT.unbind(1)
    weights = (factors.K.unsqueeze(1) * v.unsqueeze(2)).mul_(u.unsqueeze(-1))
    state = invert_cdf(weights.flatten(2), uniforms[0])
    return state // v.shape[2], state % v.shape[2]


def _draw_in_log_space(model: enumeration.Models, uniforms: Float[Tensor, " r"]) -> Tensor:
    """Reads of one strongly coupled query: first the chunk of states, then the state in it."""
    # Probability of each chunk, relative to the total so that nothing overflows.
    log_sums = torch.cat([w.logsumexp(-1) for _, w in enumeration.log_weights(model)])
    total = log_sums.logsumexp(0)
    cumulative = (log_sums - total).exp().cumsum(0)
    target = uniforms.double() * cumulative[-1]
    chunk = torch.searchsorted(cumulative, target, right=True).clamp_max(len(cumulative) - 1)
    out = torch.empty(len(target), model.h.shape[1], dtype=torch.int8, device=model.h.device)
    for c, (s, weights) in enumerate(enumeration.log_weights(model)):
        in_chunk = chunk == c
        if not bool(in_chunk.any()):
            continue
        # What is left of the target after the chunks before is inverted within this one.
        within = (weights[0] - total).exp().cumsum(0)
        before = cumulative[c - 1] if c else 0.0
        index = torch.searchsorted(within, target[in_chunk] - before, right=True)
        out[in_chunk] = s[index.clamp_max(len(s) - 1)].to(torch.int8)
    return out
