r"""What reads with a known ln q say: effective number of reads, free energies, weights.

With w = e^(-βE)/q, ⟨w⟩_q = Z for every q that draws all states. Jensen's inequality makes the
*variational* bound ⟨ln w⟩_q ≤ ln Z; their distance is the Kullback-Leibler divergence of q from p.
The effective share of reads ESS = ⟨w⟩²/⟨w²⟩ is 1 for q = p.

**None of the three sees states that q never draws.** The *forward* ESS, 1/⟨p/q⟩_p over reads of p,
is the same in theory, and is small where q has lost a part of p.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Importance:
    """Estimates from R reads of each query; a free energy is F = -ln Z/β.

    Attributes:
        ess: Effective share of the reads, 1/R to 1.
        log_Z: ln ⟨w⟩, the importance-weighted estimate of ln Z.
        log_Z_error: Its standard error, by the delta method: √((1/ESS - 1)/R).
        log_Z_bound: ⟨ln w⟩ ≤ ln Z, the variational bound.
        log_Z_bound_error: Its standard error.
    """

    ess: Float[Tensor, "*queries"]
    log_Z: Float[Tensor, "*queries"]
    log_Z_error: Float[Tensor, "*queries"]
    log_Z_bound: Float[Tensor, "*queries"]
    log_Z_bound_error: Float[Tensor, "*queries"]


def importance(
    log_q: Float[Tensor, "*queries reads"], energies: Float[Tensor, "*queries reads"]
) -> Importance:
    """Estimates from ln q and βE of reads.

    >>> importance(torch.zeros(1, 4), torch.zeros(1, 4)).ess
    tensor([1.], dtype=torch.float64)
    """
    log_w = -energies.double() - log_q.double()
    reads = log_w.shape[-1]
    ess = effective_share(log_w)
    log_mean = log_w.logsumexp(-1) - torch.tensor(float(reads), dtype=torch.float64).log()
    deviation = log_w.std(-1) if reads > 1 else torch.full_like(ess, torch.nan)
    return Importance(
        ess,
        log_mean,
        ((1 / ess - 1).clamp_min(0) / max(1, reads - 1)).sqrt(),
        log_w.mean(-1),
        deviation / reads**0.5,
    )


def effective_share(log_w: Float[Tensor, "*queries reads"]) -> Float[Tensor, "*queries"]:
    """⟨w⟩²/⟨w²⟩ from ln w of reads, up to a common constant."""
    return (2 * log_w.logsumexp(-1) - (2 * log_w).logsumexp(-1)).exp() / log_w.shape[-1]


def forward_ess(
    log_q: Float[Tensor, "*queries reads"],
    energies: Float[Tensor, "*queries reads"],
    log_Z: Float[Tensor, "*queries"],
) -> Float[Tensor, "*queries"]:
    """1/⟨p/q⟩_p from ln q and βE of reads of p: it sees what q has lost.

    Args:
        log_q: ln q of reads of p.
        energies: Their βE.
        log_Z: ln Z, from a reference.
    """
    log_ratio = -energies.double() - log_q.double() - log_Z.double().unsqueeze(-1)
    reads = torch.tensor(float(log_ratio.shape[-1]), dtype=torch.float64)
    return (reads.log() - log_ratio.logsumexp(-1)).exp()
