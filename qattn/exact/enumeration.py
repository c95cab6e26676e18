"""Log-space sums over all states in float64: slow, and right however strong the couplings are."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qattn.exact.layout import Layout, masks
from qattn.states import states

CHUNK_ELEMENTS = 1 << 22
"""Elements of the largest temporary tensor."""

CHUNK_ROWS = 64
"""Queries that are enumerated at a time."""


class Rows(NamedTuple):
    """Some queries of a batch as separate models in float64; absent spins are cut off (free)."""

    group: Int[Tensor, " m"]
    query: Int[Tensor, " m"]
    h: Float[Tensor, "m n"]
    J: Float[Tensor, "m n n"]
    active: Bool[Tensor, "m n"]


def rows(
    h: Float[Tensor, "g q n"],
    J: Float[Tensor, "g n n"],
    lay: Layout,
    copies: int,
    chosen: Bool[Tensor, "g q"],
) -> Iterator[Rows]:
    """The chosen queries of a batch, a chunk at a time."""
    if not bool(chosen.any()):
        return
    active = torch.zeros(h.shape, dtype=torch.bool, device=h.device)
    for block in lay.blocks:
        here = active[:, block.start : block.end, : block.num_spins]
        mask = masks(block, copies, h.dtype, h.device)
        here[:] = True if mask is None else mask.present.mT > 0
    for index in chosen.nonzero().split(CHUNK_ROWS):
        group, query = index.unbind(1)
        here = active[group, query]
        pairs = here.unsqueeze(-1) & here.unsqueeze(-2)
        yield Rows(group, query, h[group, query].double() * here, J[group].double() * pairs, here)


def log_weights(some: Rows) -> Iterator[tuple[Float[Tensor, "s n"], Float[Tensor, "m s"]]]:
    """Chunks of (states, h·s + ½ sᵀJs) that cover all states."""
    m, n = some.h.shape
    chunk_spins = min(n, (CHUNK_ELEMENTS // (m * n)).bit_length() - 1)
    low = states(chunk_spins, some.h.dtype, some.h.device)
    for high in range(1 << (n - chunk_spins)):
        bits = (high >> torch.arange(n - chunk_spins, device=low.device)) & 1
        s = torch.cat([low, (2 * bits - 1).to(low).expand(low.shape[0], -1)], -1)
        yield s, some.h @ s.mT + ((s @ some.J) * s).sum(-1) / 2


def log_partition(some: Rows) -> Float[Tensor, " m"]:
    """log Z; a free spin counts twice in the sum and is taken out again."""
    total = some.h.new_full(some.h.shape[:1], -torch.inf)
    for _, weights in log_weights(some):
        total = torch.logaddexp(total, weights.logsumexp(-1))
    return total - _free(some)


def weighted_moments(
    some: Rows, log_Z: Float[Tensor, " m"], g: Float[Tensor, "m n"], c: Float[Tensor, " m"]
) -> tuple[Float[Tensor, "m n"], Float[Tensor, "m n n"]]:
    """Σ_s p(s) f(s) s and Σ_s p(s) f(s) s sᵀ over active spins, for f(s) = g·s + c."""
    log_sum = (log_Z + _free(some)).unsqueeze(-1)
    first, second = torch.zeros_like(some.h), torch.zeros_like(some.J)
    for s, weights in log_weights(some):
        weighted = (weights - log_sum).exp_() * (g @ s.mT + c.unsqueeze(-1))
        first += weighted @ s
        second += (weighted.unsqueeze(-1) * s).mT @ s
    pairs = some.active.unsqueeze(-1) & some.active.unsqueeze(-2)
    return first * some.active, second * pairs


def _free(some: Rows) -> Float[Tensor, " m"]:
    return (~some.active).sum(-1) * torch.log(torch.tensor(2.0, dtype=torch.float64))
