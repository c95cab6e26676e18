r"""One message: what spin m feels of spin l through their coupling K, where l feels the field H.

.. math:: u(K, H) = \operatorname{artanh}(\tanh K \tanh H)
          = \tfrac12 \ln \frac{1 + e^{2K + 2H}}{e^{2K} + e^{2H}}.
"""

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

FROZEN = 20.0
"""|K| and |H| are cut here: σ(40) is 1 - 4e-18, and e^80 still a float32."""


def message(
    K: Float[Tensor, "messages g 1"], H: Float[Tensor, "messages g columns"]
) -> Float[Tensor, "messages g columns"]:
    """u(K, H), differentiable once; also where a product of tanh would be rounded to 1.

    >>> round(message(torch.full((1, 1, 1), 9.0), torch.full((1, 1, 1), 30.0)).item(), 3)
    9.0
    """
    found: Tensor = _Message.apply(K, H)  # type: ignore[no-untyped-call]
    return found


def squared_exp(x: Tensor) -> Tensor:
    """e^(2x), of x that is cut."""
    return x.clamp(-FROZEN, FROZEN).mul_(2).exp_()


def ratio(a: Tensor, H: Tensor) -> tuple[Tensor, Tensor]:
    """P = 1 + e^(2K + 2H) and S = e^(2K) + e^(2H) from a = e^(2K), at |H|: |u| = ½ |ln P/S|."""
    b = squared_exp(H.abs())
    return (a * b).add_(1), b.add_(a)


class _Message(torch.autograd.Function):
    """At |H|, with the sign of H: odd to the last bit.

    Saves P and S: 1 - 1/P = σ(2K + 2|H|), and e^(2K)/S = σ(2K - 2|H|).
    """

    @staticmethod
    def forward(ctx: Any, K: Tensor, H: Tensor) -> Tensor:
        a = squared_exp(K)
        P, S = ratio(a, H)
        half_sign = H.sign().mul_(0.5)
        ctx.save_for_backward(a, P, S, half_sign)
        return (P / S).log_().mul_(half_sign)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, P, S, half_sign = cast(tuple[Tensor, Tensor, Tensor, Tensor], ctx.saved_tensors)
        (gradient,) = gradients
        p, s = 1 / P, a / S
        # ∂u/∂K = σ(2K + 2H) - σ(2K - 2H), ∂u/∂H = σ(2K + 2H) + σ(2K - 2H) - 1, at |H|.
        of_K = of_H = None
        if ctx.needs_input_grad[0]:
            of_K = 2 * ((1 - p - s) * half_sign * gradient).sum(2, keepdim=True)
        if ctx.needs_input_grad[1]:
            of_H = (s - p) * gradient
        return of_K, of_H
