r"""How far mean fields go at a step: less where they would oscillate.

Steps of a mean field oscillate along an eigenvector of J whose eigenvalue is far below the bulk of
its spectrum, as that of an antiferromagnet's uniform mode. At distance λ from the bulk's edge and
for spins of variance v the step that suits such a mode is 1/(1 + λv) of a whole one, so that
:data:`DAMPING` becomes 1/(1/α + λv).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.simulators.autoregressive.models import Models

DAMPING = 0.8
"""α at the start of a fit, and without one."""


@torch.no_grad()
def damping(models: Models) -> Float[Tensor, "g q"]:
    r"""What multiplies α: 1/(1 + 0.8 λv) for each query, 1 where no eigenvalue stands out.

    λ is by how much the lowest eigenvalue of J is below the edge -2σ√n of a random matrix of the
    same variance σ² (Wigner's semicircle), over the present spins.
    """
    g, n, q = models.h.shape
    active = models.active
    if active is None:
        active = torch.ones(g, n, q, dtype=torch.bool, device=models.h.device)
    # Queries with the same spins have the same eigenvalues.
    patterns, which = active.mT.flatten(0, 1).unique(dim=0, return_inverse=True)
    below = models.h.new_zeros(g, len(patterns))
    for k, pattern in enumerate(patterns):
        J = models.J[:, pattern][:, :, pattern]
        if J.shape[1] > 1:
            edge = 2 * (J.square().sum((1, 2)) / J.shape[1]).sqrt()
            below[:, k] = (-torch.linalg.eigvalsh(J)[:, 0] - edge).clamp_min(0)
    count = active.sum(1).clamp_min(1)
    v = ((1 - models.h.tanh().square()) * active).sum(1) / count
    return 1 / (1 + DAMPING * below.gather(1, which.view(g, q)) * v)
