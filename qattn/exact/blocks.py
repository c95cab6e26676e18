"""Exact moments and reads of independent blocks: each block is a group of the dense engine."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.nn import functional as F

from qattn._tracing import is_traced
from qattn.couplings import Block
from qattn.exact import dense
from qattn.exact.engine import normalized, underflows
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples


def moments(batch: IsingBatch, *, wants_log_Z: bool = False, normalize: bool = False) -> Tensor:
    """Log Z, if requested, else occupations; differentiable in h, the values and β."""
    G, _, n = batch.h.shape
    models = _models(batch)
    if wants_log_Z:
        log_Z: Tensor = dense.moments(models, wants_log_Z=True).unflatten(0, (G, -1)).sum(1)
        return log_Z
    up = _joined(dense.moments(models), G, n)
    if not normalize:
        return up
    # Where values may not be looked at, float32 has to do.
    if up.dtype == torch.float32 and not (is_traced(up) or is_functorch_wrapped_tensor(up)):
        lengths = _lengths(batch).to(up.device)
        if underflows(up.detach().sum(-1), lengths):
            up = _joined(dense.moments(_models(batch, torch.float64)), G, n)
    return normalized(up).to(batch.h.dtype)


def pair_correlations(batch: IsingBatch) -> Float[Tensor, "groups queries spins spins"]:
    """⟨s_j s_k⟩; spins of different blocks are independent."""
    G, _, n = batch.h.shape
    models = _models(batch)
    m = models.num_spins
    mean = 2 * moments(batch) - batch.active.to(batch.h.dtype)
    pairs = mean.unsqueeze(-1) * mean.unsqueeze(-2)
    within = dense.pair_correlations(models).unflatten(0, (G, -1))
    for block, values in enumerate(within.unbind(1)):
        spins = slice(block * m, min((block + 1) * m, n))
        size = spins.stop - spins.start
        pairs[..., spins, spins] = values[..., :size, :size]
    return pairs


def sample(batch: IsingBatch, num_reads: int, seed: int | None) -> SpinSamples:
    """Independent reads."""
    G, _, n = batch.h.shape
    spins = dense.sample(_models(batch), num_reads, seed).spins
    return SpinSamples(spins.unflatten(0, (G, -1)).permute(0, 2, 3, 1, 4).flatten(3)[..., :n])


def _models(batch: IsingBatch, dtype: torch.dtype | None = None) -> IsingBatch:
    """The blocks as groups of a batch with dense J, at β = 1."""
    h, couplings = batch.scaled_structure()
    assert isinstance(couplings, Block)
    h, values = h.to(dtype or h.dtype), couplings.values.to(dtype or h.dtype)
    blocks, m = values.shape[1:3]
    h = F.pad(h, (0, blocks * m - h.shape[2])).unflatten(2, (blocks, m)).transpose(1, 2)
    within = (_lengths(batch)[:, None] - m * torch.arange(blocks, device="cpu")[:, None]).clamp(
        0, m
    )
    return IsingBatch(h.flatten(0, 1), values.flatten(0, 1), within.flatten(0, 1), validate=False)


def _lengths(batch: IsingBatch) -> Int[Tensor, "groups queries"]:
    """Number of spins of every query, on the CPU."""
    G, Q, n = batch.h.shape
    lengths = torch.full((Q,), n, device="cpu") if batch.lengths is None else batch.lengths
    return lengths.expand(G, Q)


def _joined(x: Float[Tensor, "gb q m"], num_groups: int, num_spins: int) -> Tensor:
    """Values of the spins of blocks as values of the spins of each group."""
    joined: Tensor = x.unflatten(0, (num_groups, -1)).transpose(1, 2).flatten(2)
    return joined[..., :num_spins]
