"""Log-space sums over all states in float64: slow, and right however strong the couplings are."""

from collections.abc import Iterator
from math import log
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qattn.exact.dense.layout import Layout, masks
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


def log_occupation(models: Models) -> Float[Tensor, " m"]:
    """Logarithm of Z Σ_j ⟨n_j⟩; of 1 for a query without spins, which has no occupations."""
    total = models.h.new_full(models.h.shape[:1], -torch.inf)
    for s, weights in log_weights(models):
        count = (s > 0).to(s) @ models.active.to(s).mT
        total = torch.logaddexp(total, (weights + count.mT.log()).logsumexp(-1))
    return torch.where(models.active.any(-1), total - _free(models), 0.0)


def weighted_moments(
    models: Models,
    log_sum: Float[Tensor, " m"],
    g: Float[Tensor, "m n"],
    c: Float[Tensor, " m"] | float,
) -> tuple[Float[Tensor, "m n"], Float[Tensor, "m n n"]]:
    """Σ_s p(s) f(s) n and Σ_s p(s) f(s) n nᵀ over active spins, for f(s) = g·n + c.

    p is divided by exp(log_sum), log Z as a rule, and n = (1 + s)/2.
    """
    # p(s) over all states, free spins included, so the sum with them.
    log_sum = (log_sum + _free(models)).unsqueeze(-1)
    c = c.unsqueeze(-1) if isinstance(c, Tensor) else c
    first, second = torch.zeros_like(models.h), torch.zeros_like(models.J)
    for s, weights in log_weights(models):
        n = s.relu()
        # The state without spins up adds nothing, but may weigh more than a float holds.
        nothing = models.active.to(n) @ n.mT == 0
        weights = (weights - log_sum).masked_fill_(nothing, -torch.inf)
        weighted = weights.exp_() * (g @ n.mT + c)
        first += weighted @ n
        second += (weighted.unsqueeze(-1) * n).mT @ n
    pairs = models.active.unsqueeze(-1) & models.active.unsqueeze(-2)
    return first * models.active, second * pairs


def occupations(models: Models, log_sum: Float[Tensor, " m"]) -> Float[Tensor, "m n"]:
    """⟨n_j⟩ Z/exp(log_sum); 0 at absent spins."""
    first, _ = weighted_moments(models, log_sum, torch.zeros_like(models.h), 1.0)
    return first


def pair_correlations(models: Models, log_Z: Float[Tensor, " m"]) -> Float[Tensor, "m n n"]:
    """⟨s_j s_k⟩ of active spins."""
    n, nn = weighted_moments(models, log_Z, torch.zeros_like(models.h), 1.0)
    pairs = 4 * nn - 2 * n.unsqueeze(-1) - 2 * n.unsqueeze(-2) + 1
    return pairs * (models.active.unsqueeze(-1) & models.active.unsqueeze(-2))


def gradients(
    models: Models,
    g: Float[Tensor, "m n"],
    grad_log_Z: Float[Tensor, " m"] | None,
    normalize: bool,
) -> tuple[Float[Tensor, "m n"], Float[Tensor, "m n n"]]:
    """Gradients in h and J, half of a pair's in each entry, from those in ⟨n⟩ and log Z.

    As :func:`qattn.exact.dense.factorised.backward`: if `normalize`, g holds the gradients in ⟨n⟩
    times Σ⟨n⟩, with Σ_j g_j ⟨n_j⟩ = 0.
    """
    log_Z = log_partition(models)
    g = g * models.active
    c = torch.zeros_like(log_Z) if grad_log_Z is None else grad_log_Z
    if normalize:
        first, second = weighted_moments(models, log_occupation(models), g, c)
    else:
        constant = c - (g * occupations(models, log_Z)).sum(-1)
        first, second = weighted_moments(models, log_Z, g, constant)
    # With s = 2n - 1 and Σ p f = c.
    c = c.unsqueeze(-1) * models.active
    grad_h = 2 * first - c
    grad_J = 4 * second - (2 * first - c / 2).unsqueeze(-1) - (2 * first - c / 2).unsqueeze(-2)
    pairs = models.active.unsqueeze(-1) & models.active.unsqueeze(-2)
    pairs = pairs & ~torch.eye(pairs.shape[-1], dtype=torch.bool, device=pairs.device)
    return grad_h, grad_J * pairs / 2


def _free(models: Models) -> Float[Tensor, " m"]:
    """Logarithm of the number of states of the free spins of each model."""
    return (~models.active).sum(-1).double() * log(2)
