r"""Vector spins on a sphere, in the limit of many components."""

from jaxtyping import Float
from torch import Tensor


def squared_radius(num_components: int) -> float:
    """R² = D/2 - 1 of a spin of D components.

    Raises:
        ValueError: D is not more than 2.
    """
    if num_components <= 2:
        raise ValueError(
            f"Argument `num_components` of vector spins must be more than 2, for a radius "
            f"√(D/2 - 1) above 0, but is {num_components}: take binary spins instead."
        )
    return num_components / 2 - 1


def mean_spin(
    theta: Float[Tensor, "*shape components"],
    beta: float = 1.0,
    field_variance: Float[Tensor, "*shape 1"] | None = None,
) -> Float[Tensor, "*shape components"]:
    r"""Mean of a spin s with |s| = R and :math:`p(s) \propto e^{\beta\theta\cdot s}`, D ≫ 1.

    .. math::
        \varphi(\theta) = \frac{\beta\theta}{1 + \gamma}, \qquad
        \gamma^2 = 1 + \frac{\beta^2}{R^2}\big(\|\theta\|^2 + \Delta\big), \qquad
        R^2 = D/2 - 1

    (Bal, "Spin-Model Transformers", 2023, for Δ = 0.) Exact is, with ν = D/2 - 1 = R²,
    :math:`R\, I_{\nu+1}(\kappa)/I_\nu(\kappa)` along θ at κ = βR|θ|, the mean of a von
    Mises-Fisher distribution. φ is its leading term for ν → ∞ at fixed κ/ν, and neglects
    corrections of relative order 1/ν: for weak fields it is βθ/2 where βθ R²/D is exact, too large
    by the factor D/(D - 2).

    Fluctuations. Let the field be θ + ξ, ξ independent of s and Gaussian with covariance C, as
    the sum of many weakly coupled spins is, C = Σ_j J_ij² Cov(s_j). To second order in ξ
    ⟨φ(θ + ξ)⟩ = φ + ½ Σ_bc C_bc ∂_b∂_c φ, where from γ ∂_b γ = β²θ_b/R² and βθ = (1 + γ)m

    .. math::
        \tfrac12 \sum_{bc} C_{bc}\, \partial_b \partial_c \varphi = \frac{\beta^2}{2R^2\gamma}\Big[
        -\frac{m \operatorname{tr} C + 2Cm}{1 + \gamma}
        + \frac{(3\gamma + 1)\, m^T C m}{R^2 \gamma^2}\, m \Big].

    tr C is a sum of D terms; Cm and (mᵀCm) m/R² hold one each, and are smaller by 1/D, as is what φ
    neglects already. What is left, with Δ = tr C, is -β²Δ m/(2R²γ(1 + γ)): the first order in Δ of
    the formula above. That holds at leading order in 1/D to all orders in Δ, because
    |θ + ξ|² = |θ|² + Δ up to relative fluctuations of order 1/√D, and ξ averages out of the
    direction. Fluctuations of the field shorten the mean spin, as a reaction term -mΔβ/(2R²) in the
    field would. Nothing has to be solved for: γ gets Δ.

    Args:
        theta: Mean field.
        beta: Inverse temperature.
        field_variance: Δ, the trace of the field's covariance; None for 0.

    Raises:
        ValueError: There are not more than 2 components.

    >>> import torch
    >>> theta = torch.tensor([3.0, 0.0, 0.0, 0.0, 0.0, 4.0])  # R² = 2
    >>> mean_spin(theta)
    tensor([0.6418, 0.0000, 0.0000, 0.0000, 0.0000, 0.8558])
    """
    square = theta.square().sum(-1, keepdim=True)
    if field_variance is not None:
        square = square + field_variance
    gamma = (1 + beta**2 / squared_radius(theta.shape[-1]) * square).sqrt()
    return beta * theta / (1 + gamma)


def spin_variance(m: Float[Tensor, "*shape components"]) -> Float[Tensor, "*shape 1"]:
    """Variance R² - |m|² of a spin of mean m, the trace of its covariance."""
    radius = squared_radius(m.shape[-1])
    variance: Tensor = radius - m.square().sum(-1, keepdim=True)
    return variance
