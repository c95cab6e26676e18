"""Mean spins from reads as one differentiable operation."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int8
from torch import Tensor

from qattn._vmap import over_groups
from qattn.estimators import callen, moment
from qattn.estimators.reads import Reads, chunks


class Estimator(NamedTuple):
    """Estimates of ⟨s⟩ and of its derivatives, from reads of models with β in their h and J."""

    mean: Callable[[Reads], Tensor]
    gradients: Callable[[Reads, Tensor], tuple[Tensor, Tensor]]


ESTIMATORS = {
    "callen": Estimator(callen.mean, callen.gradients),
    "moment": Estimator(moment.mean, moment.gradients),
}


def estimate(
    h: Float[Tensor, "g q n"],
    J: Float[Tensor, "g n n"],
    spins: Int8[Tensor, "g q r n"],
    weights: Float[Tensor, "g q r"] | None,
    active: Bool[Tensor, "g q n"],
    name: str,
) -> Float[Tensor, "g q n"]:
    """⟨s⟩ from reads of models at β = 1 by the estimator `name`, differentiable in h and J."""
    mean: Tensor
    (mean,) = _Estimate.apply(h, J, spins, weights, active, name)  # type: ignore[no-untyped-call]
    return mean


class _Estimate(torch.autograd.Function):
    @staticmethod
    def forward(
        h: Tensor, J: Tensor, spins: Tensor, weights: Tensor | None, active: Tensor, name: str
    ) -> tuple[Tensor]:
        mean = torch.empty_like(h)
        for q, reads in chunks(h, J, spins, weights, active):
            mean[:, q] = ESTIMATORS[name].mean(reads).mT
        return (mean,)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor]) -> None:
        *tensors, ctx.name = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_h, grad_J = _EstimateBackward.apply(  # type: ignore[no-untyped-call]
            grads[0], *ctx.saved_tensors, ctx.name
        )
        return grad_h, grad_J, None, None, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: Sequence[int | None], *args: Any
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        return over_groups(_Estimate, info.batch_size, in_dims, args)


class _EstimateBackward(torch.autograd.Function):
    @staticmethod
    def forward(
        grad: Tensor,
        h: Tensor,
        J: Tensor,
        spins: Tensor,
        weights: Tensor | None,
        active: Tensor,
        name: str,
    ) -> tuple[Tensor, Tensor]:
        grad_h, grad_J = torch.empty_like(h), torch.zeros_like(J)
        grad = grad.masked_fill(~active, 0.0)
        with torch.autocast(h.device.type, enabled=False):
            for q, reads in chunks(h, J, spins, weights, active):
                first, second = ESTIMATORS[name].gradients(reads, grad[:, q].mT)
                grad_h[:, q] = first.mT
                grad_J += second
        # Estimators give the derivative in the coupling of a pair, in both of its entries: half is
        # the derivative in each.
        grad_J.diagonal(dim1=-2, dim2=-1).zero_()
        return grad_h, grad_J / 2

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, ...]:
        raise NotImplementedError(
            "Estimators of mean spins have first derivatives only. For second derivatives of a "
            "small batch, differentiate an explicit sum over its states."
        )

    @staticmethod
    def vmap(
        info: Any, in_dims: Sequence[int | None], *args: Any
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        return over_groups(_EstimateBackward, info.batch_size, in_dims, args)
