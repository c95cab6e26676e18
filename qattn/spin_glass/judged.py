r"""How good a sampler with a known ln q is: from its own reads, and from reads of p.

With w = e^(-βE)/q, the effective share of reads is estimated from reads of q, ESS = ⟨w⟩²/⟨w²⟩, and
from reads of p, the *forward* ESS = 1/⟨p/q⟩_p. In theory they are one number. Where q has lost a
part of p, reads of q do not show it: only the second falls. It has no error bar worth the name
there, as few reads of p make all of its mean. The *lost share* of p has one. With Ẑ = ⟨w⟩_q, and
c = Σ p(s) over the states that q draws,

.. math:: \big\langle \min(1, \hat Z/w) \big\rangle_p = c\, \big\langle \min(1, w/\hat Z)
          \big\rangle_q,

because Ẑ is cZ, and both sides are Σ min(p, cq). The averages are of numbers between 0 and 1, and
their ratio leaves 1 - c, whatever q is like on the states that it draws.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.simulators.autoregressive import importance
from qattn.thermodynamics.curves.jackknife import BLOCKS, kept_blocks, standard_error

Verdict = Literal["usable with weights", "too few effective reads", "collapsed"]
"""What can be done with the reads of a sampler."""

FAR_BELOW = 0.5
"""Forward ESS relative to ESS below which a sampler may have collapsed."""

SIGMA = 7.0
"""Standard errors by which the lost share must be above 0 for a sampler to have collapsed. Of 3,600
samplers that had lost nothing (log-normal weights, ESS from 0.9 to 0.02, 2,001 reads) none came to
more than 6.3: where weights spread widely, few reads make the error too small."""

ENOUGH = 100
"""Effective reads, by the lower one of both ESS, from which on they are usable."""


@dataclass(frozen=True)
class Judged:
    """A sampler of one problem at one β.

    Attributes:
        ess: Effective share of reads, from reads of q.
        ess_error: Its standard error, as are the others', by the jackknife.
        forward_ess: The same from reads of p.
        forward_ess_error: An underestimate where few reads make all of it.
        lost: Share of p that q has lost.
        lost_error: Its standard error.
        log_Z: Importance-weighted estimate of ln Z.
        log_Z_error: Its standard error.
        log_Z_bound: Variational bound of ln Z.
        log_Z_bound_error: Its standard error.
        num_reads: Reads of q.
        verdict: What can be done with them.
    """

    ess: float
    ess_error: float
    forward_ess: float
    forward_ess_error: float
    lost: float
    lost_error: float
    log_Z: float
    log_Z_error: float
    log_Z_bound: float
    log_Z_bound_error: float
    num_reads: int
    verdict: Verdict


def judge(
    of_q: Float[Tensor, " reads"], of_p: Float[Tensor, " reads_of_p"], log_Z: float
) -> Judged:
    """Judge a sampler by ln w = -βE - ln q of its reads, and of reads of p.

    Args:
        of_q: ln w of reads of q, a multiple of 23 of them, as of those of p.
        of_p: ln w of reads of p, in independent blocks.
        log_Z: ln Z of the reference.

    A sampler that draws one of two states that are as likely:

    >>> found = judge(torch.zeros(2300), torch.tensor([0.0, 20.0]).repeat(1150), 0.7)
    >>> found.verdict, round(found.lost, 3)
    ('collapsed', 0.5)
    """
    of_q, of_p = of_q.double(), of_p.double()
    found = importance(-of_q, torch.zeros_like(of_q))
    # ln of means over the blocks of each replicate: of w, w² and the two sides of the overlap.
    log_Z_hat = _log_means(of_q)
    ess = (2 * log_Z_hat - _log_means(2 * of_q)).exp()
    forward = (log_Z - _log_means(of_p)).exp()
    by_q = _log_means((of_q - log_Z_hat[:, None]).clamp_max(0))
    by_p = _log_means((log_Z_hat[:, None] - of_p).clamp_max(0))
    values = torch.stack([ess, forward, 1 - (by_p - by_q).exp()], 1)
    value, error = values[0].tolist(), standard_error(values[1:]).tolist()
    reads = len(of_q)
    return Judged(
        value[0],
        error[0],
        value[1],
        error[1],
        value[2],
        error[2],
        float(found.log_Z),
        float(found.log_Z_error),
        float(found.log_Z_bound),
        float(found.log_Z_bound_error),
        reads,
        verdict_of(value[0], value[1], value[2], error[2], reads),
    )


def verdict_of(ess: float, forward: float, lost: float, error: float, num_reads: int) -> Verdict:
    """The verdict in words."""
    if ess * num_reads >= ENOUGH and forward < FAR_BELOW * ess and lost > SIGMA * error:
        return "collapsed"
    if min(ess, forward) * num_reads < ENOUGH:
        return "too few effective reads"
    return "usable with weights"


def _log_means(log_values: Float[Tensor, "*replicates reads"]) -> Float[Tensor, " replicates"]:
    """Ln of the mean over the kept blocks of each replicate."""
    kept = kept_blocks()
    by_block = log_values.unflatten(-1, (BLOCKS, -1)).logsumexp(-1)
    number = kept.sum(1) * (log_values.shape[-1] // BLOCKS)
    means: Tensor = (by_block + kept.log()).logsumexp(-1) - number.log()
    return means
