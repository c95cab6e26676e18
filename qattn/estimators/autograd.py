"""Mean spins from reads as one differentiable operation."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Bool, Float, Int8
from torch import Tensor

from qattn._vmap import BackwardFunction, GroupwiseFunction
from qattn.couplings import put_together
from qattn.estimators import callen, moment
from qattn.estimators.reads import chunks
from qattn.ising.precision import without_autocast

ESTIMATORS: dict[str, ModuleType] = {"callen": callen, "moment": moment}
"""Modules with ``mean(reads)`` and ``gradients(reads, grad)`` of models with β in h and J."""


class Estimate(GroupwiseFunction):
    """⟨s⟩ from reads of models at β = 1 by the estimator `name`, differentiable in h and J.

    J is its values, with the kind and the options of a structure.
    """

    @staticmethod
    def forward(
        h: Float[Tensor, "g q n"],
        J: Tensor,
        spins: Int8[Tensor, "g q r n"],
        weights: Float[Tensor, "g q r"] | None,
        active: Bool[Tensor, "g q n"],
        name: str,
        kind: str,
        options: Sequence[int],
    ) -> tuple[Float[Tensor, "g q n"]]:
        """The mean of every query."""
        mean = torch.empty_like(h)
        with without_autocast(h.device):
            for part, reads in chunks(h, put_together(J, kind, options), spins, weights, active):
                mean[part] = ESTIMATORS[name].mean(reads).mT
        return (mean,)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor]) -> None:
        """Keep the reads."""
        *tensors, name, kind, options = inputs
        ctx.settings = name, kind, options
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Estimates of the derivatives in h and J."""
        grad_h, grad_J = _EstimateBackward.apply(  # type: ignore[no-untyped-call]
            grads[0], *ctx.saved_tensors, *ctx.settings
        )
        return grad_h, grad_J, *(None,) * 6


class _EstimateBackward(BackwardFunction):
    subject = "An estimate of mean spins"

    @staticmethod
    def forward(
        grad: Tensor,
        h: Tensor,
        J: Tensor,
        spins: Tensor,
        weights: Tensor | None,
        active: Tensor,
        name: str,
        kind: str,
        options: Sequence[int],
    ) -> tuple[Tensor, Tensor]:
        grad_h, grad_J = torch.empty_like(h), torch.zeros_like(J)
        grad = grad.masked_fill(~active, 0.0)
        with without_autocast(h.device):
            for part, reads in chunks(h, put_together(J, kind, options), spins, weights, active):
                first, second = ESTIMATORS[name].gradients(reads, grad[part].mT)
                grad_h[part] = first.mT
                grad_J[part[0]] += second
        if kind == "banded":
            return grad_h, grad_J
        # Estimators give the derivative in the coupling of a pair, in both of its entries: half is
        # the derivative in each.
        grad_J.diagonal(dim1=-2, dim2=-1).zero_()
        return grad_h, grad_J / 2
