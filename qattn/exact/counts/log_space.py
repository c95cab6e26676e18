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

from qattn.exact.counts.potential import Models

NEVER = -1e30
"""The logarithm of 0, in the place of -∞ so that derivatives are numbers."""


def solve(models: Models) -> tuple[Float[Tensor, "n models"], Float[Tensor, " models"]]:
    """Occupations, and log Z of the spins."""
    with torch.enable_grad():
        scores = _leaf(models.scores)
        log_Z = _messages(scores, _leaf(models.log_phi))[0][0]
        (up,) = torch.autograd.grad(log_Z.sum(), scores)
    return up, log_Z.detach() - models.h.sum(0)


def gradients(
    models: Models, grad_up: Tensor | None, grad_log_Z: Tensor | None
) -> tuple[Float[Tensor, "n models"], Float[Tensor, "counts models"]]:
    """Gradients in the scores and in each query's log φ."""
    with torch.enable_grad():
        inputs = _leaf(models.scores), _leaf(models.log_phi)
        value, grad = _messages(*inputs)[0][0], grad_log_Z
        if grad_up is not None:
            (value,) = torch.autograd.grad(value.sum(), inputs[0], create_graph=True)
            grad = grad_up
        in_scores, in_log_phi = torch.autograd.grad(value, inputs, grad)
    return in_scores, in_log_phi


def draw(
    models: Models, num_reads: int, generator: torch.Generator | None
) -> Int8[Tensor, "models reads n"]:
    """Independent reads, position by position given the count so far."""
    scores = models.scores.clamp_min(NEVER)
    after = _messages(scores, models.log_phi.clamp_min(NEVER))
    shape = scores.shape[1], num_reads
    spins = torch.empty(*shape, len(scores), dtype=torch.int8, device=scores.device)
    count = torch.zeros(shape, dtype=torch.int64, device=scores.device)
    for t, score in enumerate(scores):
        # p(position t is up) for all counts before it, then for the count of each read.
        p = (score + _one_more(after[t + 1]) - after[t]).exp().mT.gather(1, count)
        chosen = torch.rand(shape, generator=generator, dtype=p.dtype, device=p.device) < p
        count += chosen
        spins[..., t] = chosen
    return spins.mul_(2).sub_(1)


def _messages(
    scores: Float[Tensor, "n models"], log_phi: Float[Tensor, "counts models"]
) -> list[Float[Tensor, "counts models"]]:
    """B_0 … B_n."""
    found = [log_phi]
    for score in scores.unbind()[::-1]:
        after = found[-1]
        found.append(torch.stack([after, score + _one_more(after)]).logsumexp(0))
    return found[::-1]


def _one_more(message: Float[Tensor, "counts models"]) -> Float[Tensor, "counts models"]:
    """B(c + 1) in the place of B(c)."""
    return F.pad(message[1:], (0, 0, 0, 1), value=NEVER)


def _leaf(x: Tensor) -> Tensor:
    return x.clamp_min(NEVER).requires_grad_()
