r"""How loops amplify messages.

Small messages of random signs grow by √λ a step, λ the largest eigenvalue of

.. math:: B_{l \to m, k \to l} = \tanh^2 J_{kl}, \qquad k \ne m,

which is 0 on trees. Where λ > 1, belief propagation polarises spins that have no mean; a factor
1/√λ stops the growth.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.simulators.autoregressive.message_passing.schedule import Schedule

POWERS = 12
"""Products with B; λ is the growth over the second half of them."""


@torch.no_grad()
def attenuation_of(
    J: Float[Tensor, "edges g 1"],
    schedule: Schedule,
    present: Float[Tensor, "n g queries"] | None = None,
) -> Float[Tensor, "g queries"]:
    """1/√λ where λ > 1, and 1 elsewhere.

    Args:
        J: Couplings βJ of directed edges.
        schedule: What says which edges these are.
        present: 1 at spins that queries have; None means that one query has all.
    """
    weight = J.tanh().square()
    if present is not None:
        weight = weight * present[schedule.source] * present[schedule.target]
    shape, weight = weight.shape[1:], weight.flatten(1)
    v, log_growth = torch.ones_like(weight), []
    for _ in range(POWERS):
        v = schedule.before(weight * v)
        norm = v.sum(0).clamp_min(torch.finfo(v.dtype).tiny)
        v = v / norm
        log_growth.append(norm.log())
    growth = torch.stack(log_growth[POWERS // 2 :]).mean(0)
    return (-growth / 2).exp().clamp_max(1).view(shape)
