r"""Effective inverse temperatures of a distribution by two-parameter pseudo-likelihood.

.. math::
    \max_{\beta_h, \beta_J} \sum_s P(s) \sum_i \log \sigma\big(2 s_i (\beta_h h_i
    + \beta_J \textstyle\sum_j J_{ij} s_j)\big)

is a logistic regression without intercept: convex, and consistent, because a Boltzmann
distribution has exactly these conditionals (Besag 1975).
"""

import torch
from jaxtyping import Float
from torch import Tensor

NEWTON_STEPS = 100
"""Most Newton steps; a handful suffices."""


def fit_betas(
    h: Float[Tensor, "problems n"],
    J: Float[Tensor, "problems n n"],
    spins: Float[Tensor, "*problems reads n"],
    weights: Float[Tensor, "problems reads"],
    active: Tensor | None = None,
) -> tuple[float, float]:
    r"""The (β_h, β_J) at which weighted states are most likely, one pair for all problems.

    p(s) ∝ exp(β_h Σ h s + β_J Σ J s s): (1, 1) if the states have the distribution of h and J.

    Args:
        h: Fields of each problem, qattn's sign.
        J: Couplings of each problem, qattn's sign.
        spins: States in {-1, +1}: reads of each problem, or all 2^n states, shared.
        weights: Weight of each state: counts, or exact probabilities.
        active: Which spins of each problem count, shape (problems, n); None means all.

    Raises:
        ValueError: The data do not fix both (no fields, or no couplings, or a single state).
    """
    s = spins.double()
    of_h = s * h.double().unsqueeze(1)
    of_J = s * (s @ J.double())
    features = 2 * torch.stack([of_h, of_J], -1).expand(*weights.shape, -1, 2)
    measure = (weights / weights.sum(1, keepdim=True)).double().unsqueeze(-1)
    if active is not None:
        measure = measure * active.unsqueeze(1)
    beta = torch.ones(2, dtype=torch.float64, device=h.device)
    for _ in range(NEWTON_STEPS):
        logit = features @ beta
        slope = (measure * torch.sigmoid(-logit)).unsqueeze(-1) * features
        curvature = (measure * torch.sigmoid(logit) * torch.sigmoid(-logit)).unsqueeze(-1)
        hessian = (curvature * features).flatten(0, -2).T @ features.reshape(-1, 2)
        gradient = slope.flatten(0, -2).sum(0)
        scale = hessian.diagonal().max().clamp_min(torch.finfo(torch.float64).tiny)
        if float(torch.linalg.eigvalsh(hessian / scale)[0]) < 1e-12:
            raise ValueError(
                "The problems must have both fields and couplings, and states that differ, "
                "for β_h and β_J to be fitted."
            )
        step = torch.linalg.solve(hessian, gradient)
        beta = beta + step * min(1.0, 1.0 / float(step.abs().max().clamp_min(1e-300)))
        if float(step.abs().max()) < 1e-10:
            break
    beta_h, beta_J = beta.tolist()
    return beta_h, beta_J
