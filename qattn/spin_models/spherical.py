r"""Free energy of vector spins with symmetric couplings, by steepest descent."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

MAX_STEPS = 100
"""Newton steps; some ten are taken."""


class SphericalSolution(NamedTuple):
    """The saddle of vector spins: log Z, differentiable in h, J and β; the rest is not."""

    log_Z: Float[Tensor, " groups"]
    magnetisations: Float[Tensor, "groups spins components"]
    multipliers: Float[Tensor, "groups spins"]
    converged: Bool[Tensor, " groups"]
    """False where Newton's method did not come to the saddle: do not use that log Z."""


def spherical_free_energy(
    h: Float[Tensor, "groups spins components"],
    J: Float[Tensor, "groups spins spins"],
    beta: float | Float[Tensor, ""] = 1.0,
    *,
    squared_radius: float = 1.0,
) -> SphericalSolution:
    r"""log Z of vector spins of D components and length R, :math:`F = -\ln Z/\beta`, as D → ∞.

    .. math::
        E = -\sum_i h_i \cdot s_i - \sum_{i<j} J_{ij}\, s_i \cdot s_j, \qquad
        V = \mathrm{diag}(t) - J/2

        \ln Z = -\frac{nD}{2}\Big(1 + \ln\frac{2\beta R^2}{D}\Big) + \beta R^2 \sum_i t_i
        - \frac D2 \ln\det V + \frac\beta4 \operatorname{tr} h^T V^{-1} h

    at the t where this is stationary, with V positive definite. Each δ(s_i² - R²) is written as an
    integral over t_i, those over the spins are Gaussian, and that over t is taken at its saddle:
    exact to leading order in D, and zero for h = J = 0. As a function of t it is convex, so that
    Newton's method finds its one minimum. Because it is stationary in t, first derivatives in h, J
    and β at fixed t are those of log Z; magnetisations are :math:`\tfrac12 V^{-1} h`. For one spin
    and R² = D/2 they are φ of :func:`vector_mean_spin`.

    Source: M. Bal, "Transformers from Spin Models: Approximate Free Energy Minimization" (2021),
    where D = R = 1 in this formula and J counts every pair twice.

    Args:
        h: External fields.
        J: Symmetric couplings, with zero diagonal.
        beta: Inverse temperature, positive.
        squared_radius: R².

    Raises:
        ValueError: J is not symmetric, or a number is not positive.

    >>> h = torch.tensor([[[0.6, 0.8]]], dtype=torch.float64)  # |h| = 1, D = 2
    >>> spherical_free_energy(h, torch.zeros(1, 1, 1, dtype=torch.float64)).magnetisations
    tensor([[[0.2485, 0.3314]]], dtype=torch.float64)
    """
    beta = torch.as_tensor(beta, dtype=h.dtype, device=h.device)
    if not bool(beta > 0) or not squared_radius > 0:
        raise ValueError(
            f"Arguments `beta` and `squared_radius` must be positive, but are {beta.item()} and "
            f"{squared_radius}."
        )
    if not torch.equal(J, J.mT):
        raise ValueError("Argument `J` must be symmetric, but is not.")
    with torch.no_grad():
        t, converged = _saddle(h, J, beta, squared_radius)
        magnetisations = torch.linalg.solve(_stiffness(t, J), h) / 2
    log_Z, _ = _log_partition(t, h, J, beta, squared_radius)
    return SphericalSolution(log_Z, magnetisations, t, converged)


def _stiffness(t: Tensor, J: Tensor) -> Tensor:
    return torch.diag_embed(t) - J / 2


def _log_partition(
    t: Tensor, h: Tensor, J: Tensor, beta: Tensor, squared_radius: float
) -> tuple[Tensor, Tensor]:
    """log Z at these multipliers, and where V is positive definite."""
    n, D = h.shape[1:]
    L, info = torch.linalg.cholesky_ex(_stiffness(t, J))
    log_det = 2 * L.diagonal(dim1=1, dim2=2).log().sum(1)
    quadratic = (h * torch.cholesky_solve(h, L)).sum((1, 2))
    volume = 1 + (2 * beta * squared_radius / D).log()
    spread = beta * squared_radius * t.sum(1) - D / 2 * log_det
    return spread + beta / 4 * quadratic - n * D / 2 * volume, info == 0


def _saddle(h: Tensor, J: Tensor, beta: Tensor, squared_radius: float) -> tuple[Tensor, Tensor]:
    """Newton's method in t with steps that keep V positive definite; and where it converged."""
    D = h.shape[2]
    # Diagonally dominant, hence positive definite; the solution for h = J = 0.
    t = J.abs().sum(2) / 2 + D / (2 * beta * squared_radius)
    value, _ = _log_partition(t, h, J, beta, squared_radius)
    decrement = torch.full_like(value, torch.inf)
    # The squared decrement is twice what log Z lies above its saddle.
    tolerance = torch.finfo(h.dtype).eps ** 1.5 * h[0].numel()
    for _ in range(MAX_STEPS):
        inverse = torch.linalg.inv(_stiffness(t, J))
        m = inverse @ h
        gradient = beta * squared_radius - D / 2 * inverse.diagonal(dim1=1, dim2=2)
        gradient = gradient - beta / 4 * m.square().sum(2)
        hessian = D / 2 * inverse.square() + beta / 2 * inverse * (m @ m.mT)
        step = -torch.linalg.solve(hessian, gradient)
        decrement = -(gradient * step).sum(1)
        if bool((decrement <= tolerance).all()):
            break
        # Halve the steps of those groups that would leave the cone or go up.
        length = torch.ones_like(value)
        for _ in range(60):
            ahead = t + length[:, None] * step
            new, inside = _log_partition(ahead, h, J, beta, squared_radius)
            good = inside & (new <= value - length * decrement / 4 + 1e-12 * value.abs())
            if bool(good.all()):
                break
            length = torch.where(good, length, length / 2)
        moved = good[:, None]
        t, value = torch.where(moved, ahead, t), torch.where(good, new, value)
    return t, decrement <= tolerance
