"""Log-space sums over all states in float64: slow, and right however strong the couplings are."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qattn.exact.layout import Layout, masks
from qattn.ising.states import states

CHUNK_ELEMENTS = 1 << 22
"""Elements of the largest temporary tensor."""

CHUNK_ROWS = 64
"""Queries that are enumerated at a time."""


class Models(NamedTuple):
    """Queries of a batch as separate models in float64; absent spins are decoupled and free."""

    group: Int[Tensor, " m"]
    query: Int[Tensor, " m"]
    h: Float[Tensor, "m n"]
    J: Float[Tensor, "m n n"]
    active: Bool[Tensor, "m n"]


def separate_models(
    h: Float[Tensor, "g q n"],
    J: Float[Tensor, "g n n"],
    lay: Layout,
    chosen: Bool[Tensor, "g q"],
) -> Iterator[Models]:
    """The chosen queries of a batch, a chunk at a time, with h and J in the exponent's sign."""
    if not bool(chosen.any()):
        return
    # Blocks are enumerated with fewer spins than the batch has: those beyond are absent too.
    active = torch.zeros(h.shape, dtype=torch.bool, device=h.device)
    for block in lay.blocks:
        in_block = active[:, block.start : block.end, : block.num_spins]
        mask = masks(block, lay.copies(len(h)), h.dtype, h.device)
        in_block[:] = True if mask is None else mask.present.mT > 0
    for index in chosen.nonzero().split(CHUNK_ROWS):
        group, query = index.unbind(1)
        present = active[group, query]
        pairs = present.unsqueeze(-1) & present.unsqueeze(-2)
        yield Models(
            group, query, h[group, query].double() * present, J[group].double() * pairs, present
        )


def log_weights(models: Models) -> Iterator[tuple[Float[Tensor, "s n"], Float[Tensor, "m s"]]]:
    """Chunks of (states, log-weights h·s + ½ sᵀJs) that cover all states, in their order."""
    m, n = models.h.shape
    # The low bits run through all their states at once, the high bits are the same in a chunk.
    chunk_spins = min(n, (CHUNK_ELEMENTS // (m * n)).bit_length() - 1)
    low = states(chunk_spins, models.h.dtype, models.h.device)
    for high in range(1 << (n - chunk_spins)):
        bits = (high >> torch.arange(n - chunk_spins, device=low.device)) & 1
        s = torch.cat([low, (2 * bits - 1).to(low).expand(low.shape[0], -1)], -1)
        yield s, models.h @ s.mT + ((s @ models.J) * s).sum(-1) / 2


def log_partition(models: Models) -> Float[Tensor, " m"]:
    """Logarithm of Z. A free spin doubles the sum over states; that is taken out again."""
    # Chunks are added in log space: a single weight may exceed float64.
    total = models.h.new_full(models.h.shape[:1], -torch.inf)
    for _, weights in log_weights(models):
        total = torch.logaddexp(total, weights.logsumexp(-1))
    return total - _free(models)


def weighted_moments(
    models: Models, log_Z: Float[Tensor, " m"], g: Float[Tensor, "m n"], c: Float[Tensor, " m"]
) -> tuple[Float[Tensor, "m n"], Float[Tensor, "m n n"]]:
    """Σ_s p(s) f(s) s and Σ_s p(s) f(s) s sᵀ over active spins, for f(s) = g·s + c."""
    # p(s) over all states, free spins included, so Z with them.
    log_sum = (log_Z + _free(models)).unsqueeze(-1)
    first, second = torch.zeros_like(models.h), torch.zeros_like(models.J)
    for s, weights in log_weights(models):
        weighted = (weights - log_sum).exp_() * (g @ s.mT + c.unsqueeze(-1))
        first += weighted @ s
        second += (weighted.unsqueeze(-1) * s).mT @ s
    pairs = models.active.unsqueeze(-1) & models.active.unsqueeze(-2)
    # Means of free spins are 0 up to rounding: make them so.
    return first * models.active, second * pairs


def _free(models: Models) -> Float[Tensor, " m"]:
    """Logarithm of the number of states of the free spins of each model."""
    return (~models.active).sum(-1) * torch.log(torch.tensor(2.0, dtype=torch.float64))
