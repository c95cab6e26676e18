r"""The distribution of the overlap of two independent states."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int8
from numpy.typing import NDArray
from torch import Tensor

from qattn.backends import Backend
from qattn.ising.batch import IsingBatch
from qattn.thermodynamics.curves import enumeration
from qattn.thermodynamics.curves.choice import exact_engine, reads_at
from qattn.thermodynamics.curves.jackknife import BLOCKS, kept_blocks, standard_error


@dataclass(frozen=True, eq=False)
class OverlapDistribution:
    """P(q) of every query, at all overlaps that n spins can have.

    Attributes:
        overlaps: q = 1 - 2d/n of states that differ in d = 0, 1, … spins, so it descends from 1; a
            query with fewer spins than others has nan behind its last.
        probabilities: P(q); 0 behind a query's last.
        errors: Standard errors of P(q); 0 where it is exact.
    """

    overlaps: Float[Tensor, "groups queries distances"]
    probabilities: Float[Tensor, "groups queries distances"]
    errors: Float[Tensor, "groups queries distances"]


@torch.no_grad()
def overlap_distribution(
    batch: IsingBatch,
    *,
    beta: float = 1.0,
    backend: str | Backend | None = None,
    num_reads: int = 1000,
    seed: int | None = None,
) -> OverlapDistribution:
    r"""P(q) of the overlap q = Σ_j s_j s'_j / n of two independent states s, s' at one β.

    Without a backend it is exact up to 20 spins, and beyond from independent exact reads.

    Args:
        batch: The models.
        beta: Multiplies the batch's own β.
        backend: Where reads come from; None for exact results, or exact reads.
        num_reads: Reads of each query, rounded up to a multiple of 23.
        seed: Seed of the reads; None means one from PyTorch's global generator.

    Raises:
        ValueError: As :func:`qattn.thermodynamics.thermodynamic_curves`.

    Two spins that are always alike, both up or both down:

    >>> J = torch.tensor([[[0.0, 50.0], [50.0, 0.0]]])
    >>> found = overlap_distribution(IsingBatch(torch.zeros(1, 1, 2), J))
    >>> found.overlaps
    tensor([[[ 1.,  0., -1.]]], dtype=torch.float64)
    >>> found.probabilities
    tensor([[[0.5000, 0.0000, 0.5000]]], dtype=torch.float64)
    """
    if backend is None and exact_engine(batch) == "enumeration":
        G, Q, n = batch.h.shape
        overlaps = _overlaps(batch.num_active, n)
        P = torch.zeros(G, Q, n + 1, dtype=torch.float64)
        at = torch.tensor([beta], dtype=torch.float64)
        for g, q, found in enumeration.overlaps(batch, at):
            P[g, q, : found.shape[2]] = found[:, 0]
        return OverlapDistribution(overlaps, P, torch.zeros_like(P))
    spins, counts = reads_at(batch, beta, backend, num_reads, seed)
    return overlaps_of_reads(spins, counts, batch.num_active)


@torch.no_grad()
def overlaps_of_reads(
    spins: Int8[Tensor, "groups queries reads spins"],
    weights: Float[Tensor, "groups queries reads"],
    num_active: NDArray[np.int64],
) -> OverlapDistribution:
    r"""P(q) from weighted reads: pairs of reads of different blocks, each as both weights say.

    Args:
        spins: Reads of every query, a multiple of 23 of them, in blocks that are independent; 0 at
            absent spins.
        weights: What each counts, not negative.
        num_active: Number of spins of each query.
    """
    G, Q, _, n = spins.shape
    lengths = torch.from_numpy(num_active.copy())
    P = torch.zeros(BLOCKS + 1, G, Q, n + 1, dtype=torch.float64)
    kept = kept_blocks()[:, :, None]
    for g, q in torch.cartesian_prod(torch.arange(G), torch.arange(Q)).tolist():
        s = spins[g, q].unflatten(0, (BLOCKS, -1)).float()
        of_reads = weights[g, q].double().unflatten(0, (BLOCKS, -1)) * kept
        for shift in range(1, (BLOCKS + 1) // 2):
            # Reads of different blocks; their product says how many spins differ.
            differing = (int(lengths[g, q]) - (s * s.roll(-shift, 0)).sum(2)) / 2
            pairs = (of_reads * of_reads.roll(-shift, 1)).flatten(1)
            P[:, g, q].index_add_(1, differing.round().long().flatten(), pairs)
    P /= P.sum(-1, keepdim=True)
    return OverlapDistribution(_overlaps(num_active, n), P[0], standard_error(P[1:]))


def _overlaps(num_active: NDArray[np.int64], n: int) -> Float[Tensor, "groups queries distances"]:
    """q = 1 - 2d/n of d = 0, 1, … differing spins, nan behind a query's last."""
    lengths = torch.from_numpy(num_active.copy()).unsqueeze(-1)
    d = torch.arange(n + 1, dtype=torch.float64)
    return (1 - 2 * d / lengths).masked_fill(d > lengths, torch.nan)
