r"""Binary spins in a field: their mean, without and with the fluctuations of the field."""

import warnings
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from qattn._vmap import GroupwiseFunction
from qattn.mean_field import NotConvergedWarning

MAX_ITERATIONS = 60
"""Newton steps; four to eight are taken unless β² Σ J² is in the thousands."""


def mean_spin(
    theta: Float[Tensor, "*shape"],
    beta: float = 1.0,
    field_variance: Float[Tensor, "*shape"] | None = None,
) -> Float[Tensor, "*shape"]:
    r"""Mean of a spin s = ±1 with :math:`p(s) \propto e^{\beta\theta s}`.

    .. math::
        m = \tanh\beta\theta, \qquad\text{with fluctuations}\qquad
        m = \tanh(\beta\theta - \beta^2 m \Delta)

    The second is that of a field θ + ξ with ξ Gaussian of variance Δ: ⟨tanh β(θ + ξ)⟩ is to first
    order in Δ :math:`\tanh\beta\theta - \beta^2\Delta\, m (1 - m^2)`, and so is the solution m of
    the equation, which has one for every Δ ≥ 0. It is found by Newton's method, which from below is
    monotone here, and is differentiable in both arguments.

    Args:
        theta: Mean field.
        beta: Inverse temperature.
        field_variance: Δ, not negative; None for a field that does not fluctuate.

    Warns:
        NotConvergedWarning: Newton's method has not converged somewhere.

    >>> mean_spin(torch.tensor([0.5]), field_variance=torch.tensor([0.2]))
    tensor([0.3974])
    """
    if field_variance is None:
        return torch.tanh(beta * theta)
    (m,) = Reaction.apply(beta * theta, beta**2 * field_variance)  # type: ignore[no-untyped-call]
    return torch.as_tensor(m)


def spin_variance(m: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Variance 1 - m² of a spin of mean m."""
    return 1 - m.square()


class Reaction(GroupwiseFunction):
    """The solution m of m = tanh(θ - m V) for tensors θ and V ≥ 0 of one shape."""

    @staticmethod
    def forward(theta: Tensor, variance: Tensor) -> tuple[Tensor]:
        """Newton's method for u + V tanh u = |θ|, u ≥ 0, and m = ± tanh u.

        The left side rises and is concave: steps from a lower bound of u stay below it.
        """
        size = theta.abs()
        u = torch.maximum(size / (1 + variance), size - variance)
        tolerance = 8 * torch.finfo(u.dtype).eps * (1 + size + variance)
        for _ in range(MAX_ITERATIONS):
            m = u.tanh()
            residual = size - u - variance * m
            if not bool((residual.abs() > tolerance).any()):  # NaN does not count
                return (m * theta.sign(),)
            u = u + residual / (1 + variance * (1 - m.square()))
        wrong = int((residual.abs() > tolerance).sum())
        warnings.warn(
            f"The TAP equation of {wrong} of {theta.numel()} spins has not converged, with a "
            f"residual of up to {float(residual.abs().nan_to_num().max()):.1e} after "
            f"{MAX_ITERATIONS} steps: take smaller couplings or float64.",
            NotConvergedWarning,
            stacklevel=2,
        )
        return (u.tanh() * theta.sign(),)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep the solution."""
        ctx.save_for_backward(output[0], inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """By the implicit function theorem."""
        m, variance = ctx.saved_tensors
        slope = 1 - m.square()
        grad_theta = grad * slope / (1 + variance * slope)
        return grad_theta, -m * grad_theta
