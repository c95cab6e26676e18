r"""Where softmax attention condenses on a few positions: two theories that predict it.

Scores z as they are before β; n positions, and gaps Δ_j = max z - z_j to the largest score.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def rem_threshold(scores: Float[Tensor, "*heads queries n"]) -> Float[Tensor, "*heads"]:
    r"""The freezing β of the random energy model, of independent Gaussian scores of that spread.

    .. math:: \beta_f = \sqrt{2 \ln n} / \sigma

    σ² is the variance of a query's scores, averaged over queries (Derrida 1981).

    >>> round(rem_threshold(torch.tensor([[0.0, 0.0, 2.0, 2.0]])).item() * (4 / 3) ** 0.5, 4)
    1.6651
    """
    n = scores.shape[-1]
    return math.sqrt(2 * math.log(n)) / scores.var(-1).mean(-1).sqrt()


def gap_threshold(scores: Float[Tensor, "*heads queries n"]) -> Float[Tensor, "*heads"]:
    r"""The β above which the largest score is alone, by counting gaps.

    .. math:: \beta_g = \max_{Δ:\, N(Δ) \ge 1} \frac{\ln(1 + N(Δ))}{Δ}

    N(Δ) is the mean number, over queries, of other positions whose score is within Δ of the
    largest. That the count of gaps sets the critical scale of softmax attention is the thesis of
    Karakida and Hayase, arXiv 2605.12697; this form of it is ours. Where the largest of many
    independent scores have a Gumbel limit, gaps have :math:`N(Δ) = e^{λΔ} - 1`, the ratio is λ at
    every Δ, and of Gaussian scores λ goes to the β_f of :func:`rem_threshold`.

    Each query has one position within 1 of the largest score, and the other far below:

    >>> gap_threshold(torch.tensor([[1.0, 0.0, -9.0], [-9.0, 1.0, 0.0]]))  # ln 2
    tensor(0.6931)
    """
    queries, n = scores.shape[-2:]
    gaps = (scores.amax(-1, keepdim=True) - scores).sort(-1).values[..., 1:]
    gaps = gaps.flatten(-2).sort(-1).values
    # Within the r-th smallest gap of all queries lie r / queries positions on average.
    counts = torch.arange(1, queries * (n - 1) + 1) / queries
    ratios = (counts.log1p() / gaps)[..., queries - 1 :]
    return ratios.amax(-1)
