"""What became of a training step: members that diverged, and how far mean-field moments carry."""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from qattn.layers import BoltzmannAttention


def diverged(parameters: Mapping[str, Tensor], losses: Float[Tensor, " members"]) -> list[int]:
    """Members whose loss or weights are no longer finite, in order.

    Args:
        parameters: The weights of all members; without an axis of members if there is one.
        losses: The loss of each.
    """
    if bool(losses.isfinite().all()):
        largest = torch._foreach_norm(list(parameters.values()), float("inf"))
        if bool(torch.stack(largest).isfinite().all()):
            return []
    sound = losses.isfinite().cpu()
    for value in parameters.values():
        sound &= value.isfinite().view(len(sound), -1).all(1).cpu()
    members: list[int] = (~sound).nonzero().flatten().tolist()
    return members


def mean_field_figures(model: nn.Module) -> dict[str, float]:
    """Estimated rms error of ⟨s⟩ and share without a solution to be trusted, of all layers."""
    layers = [m for m in model.modules() if isinstance(m, BoltzmannAttention)]
    found = [layer.last_info for layer in layers if "report" in layer.last_info]
    if not found:
        return {}
    squares = sum(float(info["mean_field_error"]) ** 2 for info in found)
    failed = sum(float(info["not_converged"]) for info in found)
    return {
        "mean_field_error": math.sqrt(squares / len(found)),
        "not_converged": failed / len(found),
    }
