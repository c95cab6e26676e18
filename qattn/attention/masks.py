"""What a mask says: which positions a query sees, and what is added to its scores."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qattn.couplings import Couplings

Lengths = Int[Tensor, "#batch #heads queries"]
"""How many positions, the first ones, each query sees; on the CPU."""


def split_mask(
    attn_mask: Tensor | None,
) -> tuple[Bool[Tensor, "*shape"] | None, Float[Tensor, "*shape"] | None]:
    """What a mask says of presence, and what it adds to the scores.

    A boolean mask is True where a query attends. A mask of numbers is added to the scores; where it
    is -∞, or the lowest number of its dtype as others write it, a position is absent.
    """
    if attn_mask is None or attn_mask.dtype == torch.bool:
        return attn_mask, None
    absent = attn_mask <= torch.finfo(attn_mask.dtype).min  # NaN is there, and its query is NaN
    return ~absent, attn_mask.masked_fill(absent, 0.0)


def causal_lengths(is_causal: bool, num_queries: int, num_positions: int) -> Lengths | None:
    """How many positions each query sees, the last one all of them; None where all do."""
    if not is_causal or num_queries == 1:
        return None
    lengths = torch.arange(num_positions - num_queries + 1, num_positions + 1, device="cpu")
    return lengths[None, None]


def with_lengths(
    mask: Bool[Tensor, "#batch #heads #queries positions"] | None,
    lengths: Lengths | None,
    num_positions: int,
    device: torch.device,
) -> Bool[Tensor, "#batch #heads #queries positions"]:
    """A mask that leaves each query only the first of its positions, by `lengths`."""
    if lengths is None:
        everywhere = torch.ones(1, 1, 1, num_positions, dtype=torch.bool, device=device)
        return everywhere if mask is None else mask
    seen = (torch.arange(num_positions, device="cpu") < lengths.unsqueeze(-1)).to(device)
    return seen if mask is None else mask & seen


def num_groups(couplings: Tensor | Couplings) -> int:
    """Number of groups of couplings."""
    return couplings.num_groups if isinstance(couplings, Couplings) else len(couplings)


def num_rows(couplings: Tensor | Couplings) -> int:
    """Number of spins that couplings are for."""
    if isinstance(couplings, Couplings):
        return couplings.num_spins
    return couplings.shape[-1] if couplings.ndim else 0


def leading(couplings: Tensor | Couplings, size: int) -> Tensor | Couplings:
    """The couplings among the first positions."""
    if num_rows(couplings) == size:
        return couplings
    if isinstance(couplings, Couplings):
        return couplings.leading(size)
    return couplings[:, :size, :size]
