"""Correlations between positions against their distance, and the length over which they decay."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.backends import Backend
from qattn.ising.batch import IsingBatch
from qattn.thermodynamics.curves.choice import covariances_at, reads_at
from qattn.thermodynamics.curves.jackknife import BLOCKS, kept_blocks, standard_error


@dataclass(frozen=True, eq=False)
class Correlations:
    r"""Mean of ⟨s_j s_k⟩ - ⟨s_j⟩⟨s_k⟩ over all pairs at a distance |j - k| = d.

    Attributes:
        values: The mean at d = 0, 1, …; nan where a query has no pair.
        errors: Standard errors; 0 where it is exact.
    """

    values: Float[Tensor, "groups queries distances"]
    errors: Float[Tensor, "groups queries distances"]


@torch.no_grad()
def correlations_by_distance(
    batch: IsingBatch,
    *,
    beta: float = 1.0,
    backend: str | Backend | None = None,
    num_reads: int = 1000,
    seed: int | None = None,
) -> Correlations:
    r"""Mean connected correlation of the pairs at each distance, at one β.

    Args:
        batch: The models.
        beta: Multiplies the batch's own β.
        backend: Where reads come from; None for exact results.
        num_reads: Reads of each query, rounded up to a multiple of 23.
        seed: Seed of the reads; None means one from PyTorch's global generator.

    Raises:
        ValueError: As :func:`qattn.thermodynamics.thermodynamic_curves`.

    In an open chain without fields they are tanh(J)^d:

    >>> from qattn.couplings import Banded
    >>> chain = Banded(torch.full((1, 30, 1), 1.0).double())
    >>> found = correlations_by_distance(IsingBatch(torch.zeros(1, 1, 30).double(), chain))
    >>> found.values[0, 0, :4]
    tensor([1.0000, 0.7616, 0.5800, 0.4417], dtype=torch.float64)
    """
    G, Q, n = batch.h.shape
    lengths = torch.from_numpy(batch.num_active.copy())
    if backend is None:
        values = _by_distance(covariances_at(batch, beta), lengths)
        return Correlations(values, torch.zeros_like(values))
    spins, counts = reads_at(batch, beta, backend, num_reads, seed)
    found = torch.zeros(BLOCKS + 1, G, Q, n, dtype=torch.float64)
    kept = kept_blocks()
    for g in range(G):
        # Sums of each block, then of all blocks but one.
        s = spins[g].unflatten(1, (BLOCKS, -1)).double()
        w = counts[g].unflatten(1, (BLOCKS, -1))
        weighted = s * w.unsqueeze(-1)
        total = torch.einsum("rb,qb->rq", kept, w.sum(2))
        mean = torch.einsum("rb,qbj->rqj", kept, weighted.sum(2)) / total[..., None]
        pairs = torch.einsum("rb,qbjk->rqjk", kept, weighted.mT @ s) / total[..., None, None]
        found[:, g] = _by_distance(pairs - mean[..., None] * mean[..., None, :], lengths[g])
    return Correlations(found[0], standard_error(found[1:]))


def correlation_length(correlations: Correlations) -> Float[Tensor, "groups queries"]:
    r"""The length over which correlations decay, from their second moment.

    .. math:: \xi^2 = \tfrac12 \frac{\sum_d d^2\, G(|d|)}{\sum_d G(|d|)}

    over distances d of both signs: for G = exp(-|d|/ξ₀) it is ξ₀, up to terms of order 1/ξ₀. nan
    where the sums have no ratio, which correlations of both signs may do.
    """
    G = correlations.values.nan_to_num(0)
    d = torch.arange(G.shape[-1], dtype=G.dtype)
    total = 2 * G.sum(-1) - G[..., 0]
    return ((G * d**2).sum(-1) / total).sqrt()


def _by_distance(
    covariances: Float[Tensor, "*models n n"], lengths: Tensor
) -> Float[Tensor, "*models n"]:
    """Means over the diagonals, of the spins that are there."""
    n = covariances.shape[-1]
    sums = [covariances.diagonal(d, -2, -1).sum(-1) for d in range(n)]
    pairs = (lengths.unsqueeze(-1) - torch.arange(n)).double()
    return torch.stack(sums, -1) / pairs.masked_fill(pairs <= 0, torch.nan)
