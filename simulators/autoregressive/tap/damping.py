r"""How far mean fields go at a step: less where they would oscillate.

In a random matrix of couplings with ‖J‖² = b²n (the Sherrington-Kirkpatrick model at β = b) whole
steps are best at small b, and shorter ones near the glass, b ≥ 1, where there is no fixed point to
be found in few steps. And steps oscillate along an eigenvector whose eigenvalue is λ below the
bulk's edge -2b (Wigner's semicircle), as that of an antiferromagnet's uniform mode; with v the mean
of 1 - tanh² h, 1/(1 + λv) of a step suits such a mode. Together

.. math:: \delta = \frac{1}{1 + b^2/4 + \lambda v},

where the quarter was chosen by effective numbers of reads at b from 0.5 to 2.4
(``benchmarks/autoregressive.py`` shows those of other problems).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.simulators.autoregressive.models import Models


@torch.no_grad()
def damping(models: Models) -> Float[Tensor, "g q"]:
    """δ of each query, from its present spins alone."""
    g, n, q = models.h.shape
    active = models.active
    if active is None:
        active = torch.ones(g, n, q, dtype=torch.bool, device=models.h.device)
    # Queries with the same spins have the same eigenvalues.
    patterns, which = active.mT.flatten(0, 1).unique(dim=0, return_inverse=True)
    # b²/4 and λ of each of them.
    glass, below = models.h.new_zeros(2, g, len(patterns))
    for k, pattern in enumerate(patterns):
        J = models.J[:, pattern][:, :, pattern]
        if J.shape[1] > 1:
            b = (J.square().sum((1, 2)) / J.shape[1]).sqrt()
            glass[:, k] = b.square() / 4
            below[:, k] = (-torch.linalg.eigvalsh(J)[:, 0] - 2 * b).clamp_min(0)
    which = which.view(g, q)
    v = ((1 - models.h.tanh().square()) * active).sum(1) / active.sum(1).clamp_min(1)
    return 1 / (1 + glass.gather(1, which) + below.gather(1, which) * v)
