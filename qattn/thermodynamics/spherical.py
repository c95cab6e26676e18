r"""Free energy of vector spins on spheres by a saddle point: a layer of attention as one model.

n spins of D components and length √D have the Boltzmann distribution

.. math::
    p(s) \propto \exp\Big(\beta\big(\sum_i h_i \cdot s_i + \sum_{i<j} J_{ij} \, s_i \cdot s_j
         \big)\Big), \qquad \|s_i\|^2 = D .

Each constraint is an integral over a field t_i that is conjugate to it, and what remains is
Gaussian. For D → ∞ the integrals are their integrands at a saddle point: with β in h and J,
V = diag(t) - J/2 and a for the components,

.. math::
    \frac{\ln Z}{D} = \min_{t : V \succ 0} \Big[ \sum_i t_i - \frac12 \ln\det V
        + \frac{1}{4D} \sum_a h_a^T V^{-1} h_a - \frac n2 (1 + \ln 2) \Big],

with Z = 1 for free spins. Bal, "Transformers from Spin Models: Approximate Free Energy
Minimization" (2021), has this with βt for t, one component, and every pair counted twice: his J is
J/2 here.

Twice the bracket is a convex, standard self-concordant function of t: a log-determinant barrier and
a matrix-fractional function that is compatible with it. Newton's method with steps 1/(1 + λ), where
λ is its decrement, therefore stays inside V ≻ 0 and converges from every start (Nesterov and
Nemirovskii, 1994), without a search along the line.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.couplings.base import beta_like, check_finite
from qattn.ising.checks import check_beta

FULL_STEP = 0.25
"""Newton decrement below which steps are taken in full: convergence is quadratic there."""

CONVERGED = 1e-8
"""Decrement of a last step, which leaves an error of about its square."""

MAX_STEPS = 500
"""Newton steps after which something is wrong; 5 to 20 are usual."""


class SphericalModel(NamedTuple):
    """A spherical model at its saddle point.

    Attributes:
        log_Z: ln Z, relative to free spins.
        mean: Magnetisations ⟨s_i⟩ = (1/β) ∂ ln Z/∂h_i = V⁻¹h_i/2.
        t: Where the bracket has its minimum.
    """

    log_Z: Float[Tensor, " groups"]
    mean: Float[Tensor, "groups n D"]
    t: Float[Tensor, "groups n"]


def spherical_model(
    h: Float[Tensor, "groups n D"],
    J: Float[Tensor, "groups n n"],
    beta: float | Float[Tensor, ""] | Float[Tensor, " groups"] = 1.0,
    *,
    squared_radius: float | None = None,
) -> SphericalModel:
    r"""The logarithm of Z and magnetisations of vector spins of D components and length R = √D.

    Without couplings m = h / (½ + √(¼ + ‖h‖²/D)) at β = 1, a normalisation of h: h itself where it
    is weak, and of length √D where it is strong. Couplings add the fields of the other spins, as
    attention does with its values.

    Computed in float64 and returned in the dtype of `h`. Differentiable once in h, J and β, the
    magnetisations too: exactly, by implicit differentiation of the saddle point.

    Args:
        h: Fields; of order 1 in each component.
        J: Couplings. The symmetric part counts, and the diagonal adds R²βJ_ii/2 to ln Z.
        beta: β.
        squared_radius: R² of spins of another length; None means D.

    Raises:
        ValueError: A shape does not fit, or a value is out of range.
        ArithmeticError: Newton's method does not converge: βh or βJ is too large for float64.

    A free spin in a field of length √D has the golden ratio:

    >>> found = spherical_model(torch.ones(1, 1, 16), torch.zeros(1, 1, 1))
    >>> round(float(found.mean[0, 0, 0]), 4)
    0.618
    """
    if h.ndim != 3 or 0 in h.shape or J.shape != (*h.shape[:2], h.shape[1]):
        raise ValueError(
            f"Arguments `h` and `J` must have shapes (groups, n, D) and (groups, n, n), but have "
            f"{tuple(h.shape)} and {tuple(J.shape)}."
        )
    check_finite("h", h)
    check_finite("J", J)
    check_beta(beta)
    if squared_radius is not None and not 0 < squared_radius < math.inf:
        raise ValueError(
            f"Argument `squared_radius` must be positive and finite, but is {squared_radius}."
        )
    # At β = 1 and R² = D: fields in units in which D components count as one, and half of J's
    # symmetric part.
    n, D = h.shape[1:]
    R = math.sqrt(D if squared_radius is None else squared_radius)
    beta = beta.double() if isinstance(beta, Tensor) else beta
    fields = R / D * h.double()
    fields = beta_like(beta, fields) * fields
    half_J = R**2 / D / 4 * (J + J.mT).double()
    half_J = beta_like(beta, half_J) * half_J
    with torch.no_grad():
        t = _saddle_point(fields, half_J)
        inverse, x = _response(t, fields, half_J)
        hessian = _hessian(inverse, x)
    # A step of Newton more is none at the saddle point, but has the derivatives of t.
    t = t - torch.linalg.solve(hessian, _gradient(*_response(t, fields, half_J)))
    chol = torch.linalg.cholesky(torch.diag_embed(t) - half_J)
    x = torch.cholesky_solve(fields, chol)
    half_log_det = chol.diagonal(dim1=1, dim2=2).log().sum(-1)
    bracket = t.sum(-1) - half_log_det + (fields * x).sum((1, 2)) / 4 - n / 2 * (1 + math.log(2))
    mean = R / 2 * x
    return SphericalModel((D * bracket).to(h.dtype), mean.to(h.dtype), t.to(h.dtype))


def _saddle_point(
    fields: Float[Tensor, "g n D"], half_J: Float[Tensor, "g n n"]
) -> Float[Tensor, "g n"]:
    """The minimum t, by damped Newton steps."""
    # From what free spins have in these fields, so far up that the rows of V are dominated by t.
    t = (1 + (1 + 4 * fields.square().sum(-1)).sqrt()) / 4 + half_J.abs().sum(-1)
    for _ in range(MAX_STEPS):
        inverse, x = _response(t, fields, half_J)
        gradient = _gradient(inverse, x)
        step = torch.linalg.solve(_hessian(inverse, x), gradient)
        # The decrement of twice the bracket, which is what is standard self-concordant.
        decrement = (2 * gradient * step).sum(-1, keepdim=True).clamp_min(0).sqrt()
        t -= step / torch.where(decrement < FULL_STEP, 1.0, 1 + decrement)
        if float(decrement.max()) < CONVERGED:
            return t
    raise ArithmeticError(
        f"The spherical model did not converge in {MAX_STEPS} Newton steps (decrement "
        f"{float(decrement.max()):.1e}): βh or βJ is too large for float64; lower β."
    )


def _response(
    t: Float[Tensor, "g n"], fields: Float[Tensor, "g n D"], half_J: Float[Tensor, "g n n"]
) -> tuple[Float[Tensor, "g n n"], Float[Tensor, "g n D"]]:
    """V⁻¹, and V⁻¹h."""
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(torch.diag_embed(t) - half_J))
    return inverse, inverse @ fields


def _gradient(inverse: Float[Tensor, "g n n"], x: Float[Tensor, "g n D"]) -> Float[Tensor, "g n"]:
    """The bracket's gradient by t, 1 - ½(V⁻¹)_ii - ¼‖x_i‖²: how far ‖s_i‖²/D is below 1."""
    below: Tensor = 1 - inverse.diagonal(dim1=1, dim2=2) / 2 - x.square().sum(-1) / 4
    return below


def _hessian(inverse: Float[Tensor, "g n n"], x: Float[Tensor, "g n D"]) -> Float[Tensor, "g n n"]:
    """The bracket's Hessian, ½(V⁻¹)_ij² + ½(V⁻¹)_ij x_i·x_j."""
    return inverse * (inverse + x @ x.mT) / 2
