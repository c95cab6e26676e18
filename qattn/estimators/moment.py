r"""The covariance estimator of the gradient.

For f(s) = g·s, where g is the gradient that arrives at ⟨s⟩, and at β = 1,

.. math::
    \frac{\partial \langle f \rangle}{\partial h_i} = \mathrm{Cov}(f, s_i), \qquad
    \frac{\partial \langle f \rangle}{\partial J_{ij}} = \mathrm{Cov}(f, s_i s_j).

Centred on the mean of the reads and divided by (reads - 1), both are unbiased for independent
reads; they equal the score function with a leave-one-out baseline. Of a band and of blocks only
the coupled pairs are summed.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.estimators.bonds import coupled_pairs, symmetric
from qattn.estimators.reads import Reads


def mean(reads: Reads) -> Float[Tensor, "g n q"]:
    """The mean of the reads."""
    return reads.average(reads.spins)


def gradients(reads: Reads, grad: Float[Tensor, "g n q"]) -> tuple[Float[Tensor, "g n q"], Tensor]:
    """Derivatives in h and in each pair's J, as the values of J stand, from that in ⟨s⟩."""
    s = reads.spins
    f = (grad.unsqueeze(-1) * s).sum(1, keepdim=True)
    # Deviations of f from its mean, over N - 1, times the number of reads that a row stands for;
    # s need not be centred too.
    deviation = (f - reads.average(f).unsqueeze(-1)) / (reads.count - 1).unsqueeze(-1)
    if reads.weights is not None:
        deviation = deviation * reads.weights
    weighted = deviation * s
    of_h: Tensor = weighted.sum(-1)
    if isinstance(reads.J, Tensor):
        return of_h, weighted.flatten(2) @ s.flatten(2).mT
    of_J = torch.zeros_like(reads.J.values)
    for i, j, _, place in coupled_pairs(reads.J) or []:
        of_J[place] = (weighted[:, i] * s[:, j]).sum((-1, -2))
    return of_h, symmetric(of_J) if reads.J.kind == "block" else of_J
