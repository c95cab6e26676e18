r"""Sums over counts in log space: slow, and right whatever the size of scores and potential.

.. math:: B_t(c) = \log \sum_{n_t, n_{t+1}, …} \varphi\Big(c + \sum_{j \ge t} n_j\Big)
                   \prod_{j \ge t} x_j^{n_j},
          \qquad B_t(c) = \log\big(e^{B_{t+1}(c)} + x_t e^{B_{t+1}(c+1)}\big)

is the weight of all that can follow c positions up among the first t, hence log Z = B_0(0), and
x_t e^{B_{t+1}(c+1) - B_t(c)} is the probability that position t is up too: independent reads.
"""

import torch
from jaxtyping import Float, Int8
from torch import Tensor
from torch.nn import functional as F

from qattn.exact.counts.potential import Problem

NEVER = -1e30
"""The logarithm of 0, in the place of -∞ so that derivatives are numbers."""


def solve(problem: Problem) -> tuple[Float[Tensor, "g n q"], Float[Tensor, "g q"]]:
    """Occupations, and log Σ φ Π x^n, the log Z of occupations' energies."""
    with torch.enable_grad():
        scores = _leaf(problem.scores)
        log_Z = _messages(scores, _leaf(problem.log_phi))[0][:, 0]
        (up,) = torch.autograd.grad(log_Z.sum(), scores)
    return up, log_Z.detach()


def gradients(
    problem: Problem, grad_up: Tensor | None, grad_log_Z: Tensor | None
) -> tuple[Float[Tensor, "g n q"], Float[Tensor, "g counts q"]]:
    """Gradients in the scores and in each query's log φ."""
    with torch.enable_grad():
        inputs = _leaf(problem.scores), _leaf(problem.log_phi)
        log_Z = _messages(*inputs)[0][:, 0]
        if grad_up is None:
            value, grad = log_Z, grad_log_Z
        else:
            (value,) = torch.autograd.grad(log_Z.sum(), inputs[0], create_graph=True)
            grad = grad_up
        in_scores, in_log_phi = torch.autograd.grad(value, inputs, grad)
    return in_scores, in_log_phi


def draw(
    problem: Problem, num_reads: int, generator: torch.Generator | None
) -> Int8[Tensor, "groups queries reads n"]:
    """Independent reads, position by position given the count so far."""
    scores = problem.scores.clamp_min(NEVER)
    after = _messages(scores, problem.log_phi.clamp_min(NEVER))
    groups, n, queries = scores.shape
    spins = scores.new_empty(groups, queries, num_reads, n, dtype=torch.int8)
    count = torch.zeros(groups, queries, num_reads, dtype=torch.int64, device=scores.device)
    for t in range(n):
        # Of all counts so far, then of the count of each read.
        up = (scores[:, t : t + 1] + _one_more(after[t + 1]) - after[t]).exp().mT
        uniform = torch.rand(
            count.shape, generator=generator, dtype=scores.dtype, device=scores.device
        )
        chosen = uniform < up.gather(2, count)
        count += chosen
        spins[..., t] = chosen
    return spins.mul_(2).sub_(1)


def _messages(scores: Float[Tensor, "g n q"], log_phi: Float[Tensor, "g c q"]) -> list[Tensor]:
    """B_0 … B_n, each (groups, counts, queries)."""
    found = [log_phi]
    for score in scores.unsqueeze(2).unbind(1)[::-1]:
        after = found[-1]
        found.append(torch.stack([after, score + _one_more(after)]).logsumexp(0))
    return found[::-1]


def _one_more(message: Float[Tensor, "g c q"]) -> Float[Tensor, "g c q"]:
    """B(c + 1) in the place of B(c)."""
    return F.pad(message[:, 1:], (0, 0, 0, 1), value=NEVER)


def _leaf(x: Tensor) -> Tensor:
    return x.clamp_min(NEVER).requires_grad_()
