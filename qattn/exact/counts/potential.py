r"""Each query's positions and potential, tilted so that what matters is not small.

Multiplying every odds x_j = e^{2h_j} by e^{-u} and φ(c) by e^{uc} changes no state's weight. The
positions are then independent with probabilities p_j = σ(2h_j - u), the counts follow their
Poisson-binomial distribution P_u, and

.. math:: Z \propto \sum_c P_u(c)\, \varphi(c) e^{uc}.

A float holds that if P_u is not small where the potential is large: u is where the mean count
Σ_j p_j meets the count at which log φ(c) + uc is largest. The first falls and the second rises with
u, and there the convex log-bound Σ_j log(1 + x_j e^{-u}) + max_c (log φ(c) + uc) on Z is least.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qattn.couplings import Couplings

SLACK = 5.0
"""Counts whose log φ(c) + uc is so near to the largest are as good as it."""
LOSS = 10.0
"""The bound above may exceed its least value by so much."""
STEPS = 24
"""Largest number of bisections."""


class Models(NamedTuple):
    """A block of queries of all groups, one after the other on the last axis.

    Attributes:
        h: Fields; 0 at absent spins.
        scores: 2h; -∞ at absent spins.
        present: Whether there is a spin.
        log_phi: log φ of the counts of each query; -∞ where a query has too few spins.
        stuck: Whether no count is allowed, so that all of the query's spins are up.
        broken: Whether h or φ is not a number.
    """

    h: Float[Tensor, "n models"]
    scores: Float[Tensor, "n models"]
    present: Bool[Tensor, "n models"]
    log_phi: Float[Tensor, "counts models"]
    stuck: Bool[Tensor, " models"]
    broken: Bool[Tensor, " models"]


def models(
    h: Float[Tensor, "groups n queries"], couplings: Couplings, lengths: Int[Tensor, "#g queries"]
) -> Models:
    """Fields and potential of each query."""
    groups, n, queries = h.shape
    h = flat(h)
    lengths = lengths.to(h.device).expand(groups, queries).reshape(-1)
    values = couplings.values[:, : n + 1].mT.repeat_interleave(queries, 1)
    present = torch.arange(n, device=h.device)[:, None] < lengths
    h = torch.where(present, h, 0.0)
    # NaN and infinity stay out of sums and comparisons, and come back at the end.
    broken = ~(h * 0).sum(0).eq(0) | ~(values < torch.inf).all(0)
    h, values = h.masked_fill(broken, 0.0), values.nan_to_num(0.0, 0.0, -torch.inf)
    scores = (2 * h).masked_fill(~present, -torch.inf)
    # A query with fewer spins than every allowed count attends to all of them.
    counts = torch.arange(len(values), device=h.device)[:, None]
    log_phi = torch.where(counts <= lengths, values, -torch.inf)
    stuck = (log_phi == -torch.inf).all(0)
    log_phi = torch.where(stuck & (counts == lengths), 0.0, log_phi)
    return Models(h, scores, present, log_phi, stuck, broken)


def flat(x: Float[Tensor, "groups n queries"]) -> Float[Tensor, "n models"]:
    """The queries of all groups on one axis."""
    return x.transpose(0, 1).flatten(1)


def by_group(x: Float[Tensor, "n models"], num_groups: int) -> Float[Tensor, "groups n queries"]:
    """The groups' queries apart."""
    apart: Tensor = x.unflatten(1, (num_groups, -1))
    return apart.transpose(0, 1)


def tilt(models: Models) -> Float[Tensor, " models"]:
    """The tilt u of each query: 0 if that does, else by bisection."""
    scores, log_phi = models.scores, models.log_phi
    n = len(scores)
    u = scores.new_zeros(scores.shape[1])
    if n == 0:
        return u
    counts = torch.arange(len(log_phi), device=scores.device, dtype=u.dtype)[:, None]
    # Below, nearly all positions are up; above, nearly none.
    low = scores.masked_fill(~models.present, torch.inf).amin(0).sub_(3).clamp_max_(0)
    high = scores.amax(0).add_(3 + math.log(n)).clamp_min_(0)
    for _ in range(STEPS):
        mean = (scores - u).sigmoid_().sum(0)
        tilted = torch.addcmul(log_phi, counts, u)
        good = tilted >= tilted.amax(0) - SLACK
        fewest, most = counts.where(good, torch.inf).amin(0), counts.where(good, 0).amax(0)
        # The bound is convex in u: slope times distance bounds what a better u could save.
        above, below = mean - most, fewest - mean
        more = torch.maximum(above * (high - u), below * (u - low)) > LOSS
        if not bool(more.any()):
            break
        low, high = torch.where(above > 0, u, low), torch.where(below > 0, u, high)
        u = torch.where(more, (low + high) / 2, u)
    return u
