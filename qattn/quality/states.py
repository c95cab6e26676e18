r"""Distances between the frequencies of reads and exact probabilities, over states.

.. math::
    \mathrm{TV} = \tfrac12 \sum_s |\hat p(s) - p(s)|, \qquad
    \mathrm{KL} = \sum_s q(s) \log \frac{q(s)}{p(s)} = -\langle \log p \rangle_q - H(q) .

TV is the plug-in estimate, biased upwards: reads that scatter over states differ from any
distribution. Of N independent exact reads it is about Σ_s √(p(1 - p)/(2πN)), its noise floor, and
it saturates near 1 where N is below the number of states that matter; a sampler that is too cold
visits fewer of them and can then lie below the floor. Only states that were read need their
probability: the others add ½(1 - Σ_read p).

In KL the first term is a mean over reads, so unbiased, and the plug-in estimate of the entropy H is
replaced by that of Chao, Wang and Jost (Methods in Ecology and Evolution 4, 1091 (2013), eq. 9),
which extrapolates to states not yet read from those that were read once and twice. What bias is
left shows in the floor.
"""

import itertools
import math

import torch
from jaxtyping import Float
from scipy import integrate
from torch import Tensor

from qattn.ising.samples import SpinSamples

VANISHING = 50.0
"""Where e^-v counts as zero."""


def distances(
    samples: SpinSamples, log_p: Float[Tensor, "problems reads"]
) -> tuple[Float[Tensor, " problems"], Float[Tensor, " problems"]]:
    """TV (plug-in) and KL (corrected, so that it may be slightly negative; nats) of each problem.

    Args:
        samples: Reads of one query a group; weights are counts.
        log_p: Exact log-probability of each read.
    """
    problems = len(samples.spins)
    # States by number, bit j for spin j up, so that sorting brings equal reads together; where
    # that is more than the bits of an integer, by several numbers.
    up = samples.spins[:, 0] > 0
    words = [(bits * (1 << torch.arange(bits.shape[-1]))).sum(-1) for bits in up.split(62, -1)]
    number = torch.stack(words, -1)
    shares = samples.normalized_weights(torch.float64)[:, 0]
    total = samples.counts()[:, 0]
    variation, divergence = torch.zeros(2, problems, dtype=torch.float64).unbind()
    for p in range(problems):
        state, place = number[p].unique(dim=0, return_inverse=True)
        frequency = torch.zeros(len(state), dtype=torch.float64).index_add(0, place, shares[p])
        log_of_state = torch.zeros_like(frequency)
        log_of_state[place] = log_p[p]
        probability = log_of_state.exp()
        seen = (frequency - probability).abs().sum() + 1 - probability.sum()
        variation[p] = seen.clamp_min(0) / 2
        divergence[p] = -(shares[p] * log_p[p]).sum() - entropy(frequency * total[p])
    return variation, divergence


def entropy(counts: Float[Tensor, " states"]) -> float:
    r"""Entropy in nats of the distribution that states with these counts were drawn from.

    .. math::
        H = \sum_{x > 0} \frac{x}{N} \big(\psi(N) - \psi(x)\big) + \frac{f_1}{N} (1 - A)^{1 - N}
            \Big[-\log A - \sum_{r=1}^{N-1} \frac{(1 - A)^r}{r}\Big], \quad
        A = \frac{2 f_2}{(N - 1) f_1 + 2 f_2},

    with f_1 and f_2 the numbers of states read once and twice (Chao, Wang and Jost, 2013; where
    no state was read twice, f_1 - 1 and 1 stand for f_1 and f_2 in A).
    """
    x = counts[counts > 0].round().clamp_min(1.0)
    N = x.sum()
    seen = float((x / N * (torch.digamma(N) - torch.digamma(x))).sum())
    once, twice, reads = int((x == 1).sum()), int((x == 2).sum()), int(N)
    if once == 0 or reads < 2:
        return seen
    pairs = 2.0 * twice if twice else 2.0
    A = pairs / ((reads - 1) * (once if twice else once - 1) + pairs)
    if A >= 1:
        return seen
    # The bracket is the tail Σ_{r>=N} (1 - A)^r / r of the logarithm's series; with the factor
    # before it, ∫_0^1 (1 - A) t^(N-1) / (1 - (1 - A) t) dt, here in v = -N log t: no cancellation.
    points = [0.0, min(1.0, reads * A), 1.0, VANISHING]
    tail = sum(
        integrate.quad(lambda v: math.exp(-v) / (1 / (1 - A) - math.exp(-v / reads)), low, high)[0]
        for low, high in itertools.pairwise(points)
    )
    return seen + once / reads * tail / reads
