r"""The steady state of mean-field dynamics, differentiable as a fixed point."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from qattn._vmap import BackwardFunction, GroupwiseFunction
from qattn.mean_field import NotConvergedWarning
from qattn.spin_models.step import check_spin_model, kinetic_step

Step = Callable[[Tensor, Tensor, Tensor], Tensor]
"""x, J and m to the m of the next step."""


def steady_state(
    x: Float[Tensor, "*#batch spins components"],
    J: Float[Tensor, "*#batch spins spins"],
    *,
    spins: str = "vector",
    mean_field: str = "naive",
    beta: float = 1.0,
    tolerance: float = 1e-6,
    max_iterations: int = 500,
) -> Float[Tensor, "*batch spins components"]:
    r"""The magnetisations m = F(x, J, m) that :func:`kinetic_step` leaves as they are.

    They are reached from m = φ(x) by repeated steps. Gradients are those of the fixed point, by
    implicit differentiation: :math:`\lambda = g + (\partial F/\partial m)^T \lambda` is solved by
    the transposed iteration, and nothing is kept of the steps.

    For vector spins and naive mean field a step contracts by βR_J/2, R_J the largest row sum of
    |J|: for couplings from a softmax and β < 2 there is one steady state, and it is always reached.

    Args:
        x: External field of each spin.
        J: J_ij, from spin j to spin i.
        spins: "vector" or "binary".
        mean_field: "naive" or "tap".
        beta: Inverse temperature, of field and couplings.
        tolerance: Largest change of a component of m in the last step, and of λ relative to the
            largest gradient; at least some roundings of the dtype are allowed.
        max_iterations: Largest number of steps.

    Raises:
        ValueError: As for :func:`kinetic_step`, or a number is not positive.

    Warns:
        NotConvergedWarning: Some systems still change at the end, by how much; their last step
            is what is returned. The same for gradients.

    >>> x, J = torch.full((1, 1), 0.1), torch.ones(1, 1)
    >>> m = steady_state(x, J, spins="binary")
    >>> bool((m - torch.tanh(0.1 + m)).abs() < 1e-6)
    True
    """
    check_spin_model(spins, mean_field)
    for name, value in (("tolerance", tolerance), ("max_iterations", max_iterations)):
        if not value > 0:
            raise ValueError(f"Argument `{name}` must be positive, but is {value}.")
    step = partial(kinetic_step, spins=spins, mean_field=mean_field, beta=beta)
    # Systems are groups: one axis, also for what broadcasts.
    shape = torch.broadcast_shapes(x.shape[:-2], J.shape[:-2])
    x = x.expand(*shape, *x.shape[-2:])
    groups = [a.expand(*shape, *a.shape[-2:]).reshape(-1, *a.shape[-2:]) for a in (x, J)]
    (m,) = SteadyState.apply(*groups, step, tolerance, max_iterations)  # type: ignore[no-untyped-call]
    return torch.as_tensor(m).view(x.shape)


class SteadyState(GroupwiseFunction):
    """The fixed point of a step, and its implicit derivatives."""

    @staticmethod
    def forward(
        x: Tensor, J: Tensor, step: Step, tolerance: float, max_iterations: int
    ) -> tuple[Tensor]:
        """Repeat the step from the magnetisations without couplings."""
        start = step(x, torch.zeros_like(J), torch.zeros_like(x))
        return (
            _fixed_point(partial(step, x, J), start, tolerance, max_iterations, "steady state"),
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep the fixed point."""
        x, J, *ctx.how = inputs
        ctx.save_for_backward(x, J, *output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Derivatives in x and J."""
        args = (grad, *ctx.saved_tensors, *ctx.how)
        grad_x, grad_J = SteadyStateBackward.apply(*args)  # type: ignore[no-untyped-call]
        return grad_x, grad_J, None, None, None


class SteadyStateBackward(BackwardFunction):
    """Gradients in x and J from that in the fixed point."""

    subject = "A steady state"

    @staticmethod
    def forward(
        grad: Tensor,
        x: Tensor,
        J: Tensor,
        m: Tensor,
        step: Step,
        tolerance: float,
        max_iterations: int,
    ) -> tuple[Tensor, Tensor]:
        """Solve λ = g + (∂F/∂m)ᵀλ; then λᵀ∂F/∂x and λᵀ∂F/∂J."""
        with torch.enable_grad():
            inputs = [a.detach().requires_grad_() for a in (x, J, m)]
            after = step(*inputs)
        scale = grad.abs().nan_to_num().amax().clamp_min(torch.finfo(grad.dtype).tiny)

        def pulled_back(adjoint: Tensor) -> Tensor:
            (change,) = torch.autograd.grad(after, inputs[2], adjoint, retain_graph=True)
            return grad / scale + change

        adjoint = _fixed_point(
            pulled_back, grad / scale, tolerance, max_iterations, "gradient in the steady state"
        )
        grad_x, grad_J = torch.autograd.grad(after, inputs[:2], scale * adjoint)
        return grad_x, grad_J


def _fixed_point(
    step: Callable[[Tensor], Tensor],
    m: Tensor,
    tolerance: float,
    max_iterations: int,
    what: str,
) -> Tensor:
    """Repeat a step until it changes nothing; a warning if it still does."""
    tolerance = max(tolerance, 8 * torch.finfo(m.dtype).eps)
    for _ in range(max_iterations):
        before, m = m, step(m)
        change = (m - before).abs()
        if not bool((change > tolerance).any()):  # NaN does not count
            return m
    wrong = int((change > tolerance).flatten(1).any(1).sum())
    warnings.warn(
        f"The {what} of {wrong} of {len(m)} systems has not converged: after "
        f"{max_iterations} steps a component of one still changes by "
        f"{float(change.nan_to_num().max()):.1e}. Take weaker couplings, or more `max_iterations`.",
        NotConvergedWarning,
        stacklevel=3,
    )
    return m
