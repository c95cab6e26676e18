"""States of n spins by number, and states drawn from a table of their weights."""

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from qattn._tracing import cached_constant


@cached_constant(maxsize=64)
def states(num_spins: int, dtype: torch.dtype, device: torch.device) -> Num[Tensor, "states n"]:
    """All 2^n states in {-1, +1}; spin j of state i is bit j of i (set: +1)."""
    index = torch.arange(1 << num_spins, device=device)
    bits = (index[:, None] >> torch.arange(num_spins, device=device)) & 1
    return (2 * bits - 1).to(dtype)


def invert_cdf(
    weights: Float[Tensor, "*batch states"], uniforms: Float[Tensor, "*batch reads"]
) -> Int[Tensor, "*batch reads"]:
    """Index i with probability weights_i / Σ weights; never one of weight zero.

    Args:
        weights: Not negative, and not all zero.
        uniforms: Numbers in [0, 1), one for each index that is drawn.
    """
    cumulative = weights.cumsum(-1, dtype=torch.float64)
    total = cumulative[..., -1:]
    # Rounding in target can reach the total: stay below the last state of positive weight.
    below = torch.nextafter(total, torch.zeros_like(total))
    target = torch.minimum(uniforms.double() * total, below)
    index = torch.searchsorted(cumulative, target, right=True)
    # Weights that are all zero (queries that the exact engine redraws in log space) give the last.
    return index.clamp_max(weights.shape[-1] - 1)
