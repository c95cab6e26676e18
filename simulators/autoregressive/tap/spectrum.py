r"""What the lowest eigenvalue of J asks of mean-field equations.

Where it is an outlier, -Λ below the bulk's edge -2b (Wigner's semicircle, with b² = (‖J‖² - Λ²)/n),
as that of an antiferromagnet's uniform mode, two things change.

*Steps* along it oscillate: with λ = Λ - 2b and v the mean of 1 - tanh² h, 1/(1 + λv) of a step
suits that mode. In the bulk whole steps are best at small b, and shorter ones near the glass,
b ≥ 1, where there is no fixed point to be found in few steps. Together

.. math:: \delta = \frac{1}{1 + b^2/4 + 0.8 \lambda v},

whose numbers were chosen by effective numbers of reads (``benchmarks/autoregressive.py`` shows
those of other seeds).

*Rings* of three and more couplings, which the free energy of Thouless, Anderson and Palmer leaves
out, cancel in a random matrix, but not along this mode. In the Gaussian approximation they add up
to

.. math::
    \Phi_\circ = -\tfrac12 \big(\ln(1 + X) - X + \tfrac12 X^2\big), \qquad X = \sum_l w_l v_l,

with the weights w = √(Λ² - 4b²) u² of the mode u as it would be without the bulk (Baik, Ben Arous
and Péché, Ann. Probab. 33, 1643 (2005)).
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.simulators.autoregressive.models import Models


class Spectrum(NamedTuple):
    """For each query, from its present spins alone.

    Attributes:
        step: δ.
        mode: w, all 0 where no eigenvalue stands out.
    """

    step: Float[Tensor, "g q"]
    mode: Float[Tensor, "g n q"]


@torch.no_grad()
def spectrum(models: Models) -> Spectrum:
    """Lengths of steps, and the mode that stands out."""
    g, n, q = models.h.shape
    active = models.active
    if active is None:
        active = torch.ones(g, n, q, dtype=torch.bool, device=models.h.device)
    # Queries with the same spins have the same J.
    patterns, which = active.mT.flatten(0, 1).unique(dim=0, return_inverse=True)
    glass, below = models.h.new_zeros(2, g, len(patterns))
    modes = models.h.new_zeros(g, n, len(patterns))
    for k, pattern in enumerate(patterns):
        J = models.J[:, pattern][:, :, pattern]
        size = J.shape[1]
        if size < 2:
            continue
        values, vectors = torch.linalg.eigh(J)
        lowest = -values[:, 0]
        edge = 2 * ((J.square().sum((1, 2)) - lowest.square()).clamp_min(0) / size).sqrt()
        glass[:, k] = edge.square() / 16
        below[:, k] = (lowest - edge).clamp_min(0)
        strength = (lowest.square() - edge.square()).clamp_min(0).sqrt()
        modes[:, pattern, k] = strength.unsqueeze(1) * vectors[:, :, 0].square()
    # To the queries.
    which = which.view(g, q)
    v = ((1 - models.h.tanh().square()) * active).sum(1) / active.sum(1).clamp_min(1)
    step = 1 / (1 + glass.gather(1, which) + 0.8 * below.gather(1, which) * v)
    return Spectrum(step, modes.gather(2, which.unsqueeze(1).expand(g, n, q)))
