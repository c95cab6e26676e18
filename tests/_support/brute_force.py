"""Sums over all states, written as differently from the engine as possible."""

import functools
import itertools
from typing import NamedTuple

import torch
from torch import Tensor

from qattn import IsingBatch


@functools.cache
def all_states(n: int) -> Tensor:
    """Every state of n spins, shape (2^n, n)."""
    states = list(itertools.product([-1.0, 1.0], repeat=n))
    return torch.tensor(states, dtype=torch.float64).reshape(2**n, n)


class Expectations(NamedTuple):
    log_Z: Tensor
    mean: Tensor
    pairs: Tensor


def expectations(batch: IsingBatch, h: Tensor, J: Tensor) -> Expectations:
    """By enumeration in float64, one query at a time; differentiable in h and J."""
    log_Z = torch.zeros(batch.num_groups, batch.num_queries, dtype=torch.float64)
    mean = torch.zeros(*batch.h.shape, dtype=torch.float64)
    pairs = torch.zeros(*batch.h.shape, batch.num_spins, dtype=torch.float64)
    out = Expectations(log_Z, mean, pairs)
    beta = torch.as_tensor(batch.beta, dtype=torch.float64).expand(batch.num_groups)
    for g in range(batch.num_groups):
        for q in range(batch.num_queries):
            n = int(batch.num_active[g, q])
            S = all_states(n)
            upper = J[g, :n, :n].double().triu(1)
            weights = beta[g] * (S @ h[g, q, :n].double() + ((S @ upper) * S).sum(-1))
            p = weights.softmax(0)
            out.log_Z[g, q] = weights.logsumexp(0)
            out.mean[g, q, :n] = p @ S
            out.pairs[g, q, :n, :n] = (S * p[:, None]).mT @ S
    return out


def random_couplings(groups: int, spins: int, scale: float, **options: object) -> Tensor:
    """Symmetric couplings, uniform in [-scale, scale]."""
    upper = ((torch.rand(groups, spins, spins, **options) * 2 - 1) * scale).triu(1)
    return upper + upper.mT


# Absolute for means, relative for log Z (which is at least n log 2).
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5}
# Scales of |J| and |h|: none, paramagnetic, critical, frozen, and beyond float32 (where products
# leave float64 too: tests/exact/test_log_space.py).
SCALES = [(0.0, 1.0), (0.3, 2.0), (1.0, 5.0), (3.0, 10.0), (20.0, 40.0)]


def random_batch(n, J_scale, h_scale, *, seed, dtype=torch.float64, beta=0.7, queries=6):
    torch.manual_seed(seed)
    J = random_couplings(2, n, J_scale, dtype=torch.float64).to(dtype)
    h = ((torch.rand(2, queries, n, dtype=torch.float64) * 2 - 1) * h_scale).to(dtype)
    return IsingBatch(h, J, torch.randint(0, n + 1, (queries,)), beta)
