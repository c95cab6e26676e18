r"""Each query's positions and potential, tilted so that what matters is not small.

Multiplying every odds x_j = e^{2h_j} by e^{-u} and φ(c) by e^{uc} changes no state's weight. The
positions are then independent with probabilities p_j = σ(2h_j - u), the counts follow their
Poisson-binomial distribution P_u, and

.. math:: Z \propto \sum_c P_u(c)\, \varphi(c) e^{uc}.

A float holds that if P_u is not small where the potential is large: u is where the mean count
Σ_j p_j meets the count at which log φ(c) + uc is largest. The first falls and the second rises with
u, and there the convex log-bound Σ_j log(1 + x_j e^{-u}) + max_c (log φ(c) + uc) on Z is least.
"""

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


class Problem(NamedTuple):
    """A block of queries.

    Attributes:
        scores: 2h; -∞ at absent spins.
        log_phi: log φ of the counts of each query; -∞ where a query has too few spins.
        stuck: Whether no count is allowed, so that all of the query's spins are up.
        broken: Whether h or φ is not a number.
        h: Fields; 0 at absent spins.
        present: Whether there is a spin.
    """

    scores: Float[Tensor, "groups n queries"]
    log_phi: Float[Tensor, "groups counts queries"]
    stuck: Bool[Tensor, "groups queries"]
    broken: Bool[Tensor, "groups queries"]
    h: Float[Tensor, "groups n queries"]
    present: Bool[Tensor, "#groups n queries"]


def problem(
    h: Float[Tensor, "groups n queries"], couplings: Couplings, lengths: Int[Tensor, "#g queries"]
) -> Problem:
    """Fields and potential of each query."""
    n = h.shape[1]
    values = couplings.values[:, : n + 1].unsqueeze(2)
    lengths = lengths.to(h.device).unsqueeze(1)
    present = torch.arange(n, device=h.device)[:, None] < lengths
    h = torch.where(present, h, 0.0)
    # NaN and infinity stay out of sums and comparisons, and come back at the end.
    broken = ~(h * 0).sum(1).eq(0) | ~(values < torch.inf).all(1)
    h, values = h.masked_fill(broken.unsqueeze(1), 0.0), values.nan_to_num(0.0, 0.0, -torch.inf)
    scores = (2 * h).masked_fill(~present, -torch.inf)
    # A query with fewer spins than every allowed count attends to all of them.
    counts = torch.arange(values.shape[1], device=h.device)[:, None]
    log_phi = torch.where(counts <= lengths, values, -torch.inf)
    stuck = (log_phi == -torch.inf).all(1)
    log_phi = torch.where(stuck.unsqueeze(1) & (counts == lengths), 0.0, log_phi)
    return Problem(scores, log_phi, stuck, broken, h, present)


def tilt(problem: Problem) -> Float[Tensor, "groups queries"]:
    """The tilt u of each query: 0 if that does, else by bisection."""
    scores, log_phi = problem.scores, problem.log_phi
    counts = torch.arange(log_phi.shape[1], device=scores.device)[:, None]
    n = scores.shape[1]
    if n == 0:
        return scores.new_zeros(scores.shape[::2])
    # Below, nearly all positions are up; above, nearly none.
    low = scores.masked_fill(~problem.present, torch.inf).amin(1).clamp(-1e30, 1e30) - 3
    high = scores.amax(1).clamp(-1e30, 1e30) + 3 + torch.tensor(float(n)).log().item()
    low, high = low.clamp_max(0.0), high.clamp_min(0.0)
    u = torch.zeros_like(low)
    for _ in range(STEPS):
        mean = (scores - u.unsqueeze(1)).sigmoid_().sum(1)
        tilted = torch.addcmul(log_phi, counts.to(u), u.unsqueeze(1))
        good = tilted >= tilted.amax(1, keepdim=True) - SLACK
        fewest = counts.where(good, n).amin(1)
        most = counts.where(good, 0).amax(1)
        # The bound is convex in u: slope times distance bounds what a better u could save.
        above, below = mean - most, fewest - mean
        loss = torch.maximum(above * (high - u), below * (u - low))
        if not bool((loss > LOSS).any()):
            break
        low, high = torch.where(above > 0, u, low), torch.where(below > 0, u, high)
        u = torch.where(loss > LOSS, (low + high) / 2, u)
    return u
