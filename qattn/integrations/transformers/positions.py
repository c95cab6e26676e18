"""Which positions of the text the keys of a pass are: what its mask says of the rows of J."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Positions:
    """What the mask of a pass says of its keys.

    Attributes:
        is_causal: Whether it says no more than that queries are the last positions, and each sees
            those up to itself.
        rows: The position of the text that each key is, which is its row of J; None for 0, 1, ….
        size: Number of positions of the text, those before the first key among them.
    """

    is_causal: bool
    rows: Int[Tensor, "batch keys"] | None
    size: int


def positions_of(
    mask: Bool[Tensor, "batch heads queries keys"],
    rows: Int[Tensor, "#batch keys"] | None = None,
) -> Positions:
    """The positions of the keys of a mask, which is True where a query attends.

    Args:
        mask: The mask.
        rows: The positions, if more is known than the mask says: a window hides what is before it.
            Otherwise a key has as many positions before it as a query that sees it sees keys
            before it, so that padding and empty slots of a cache are none.

    Raises:
        ValueError: The mask is one of several texts in a row, or of branches of a text.
    """
    queries, keys = mask.shape[-2:]
    counting, live = rows is None, mask.any(2).any(1)
    if rows is None:
        rows = (mask.cumsum(-1) * mask).amax((1, 2)) - 1
    rows = rows.expand(len(mask), -1)
    sizes = torch.where(live, rows, -1).amax(-1) + 1
    if counting and bool((sizes != live.sum(-1)).any()):
        raise ValueError(
            "Argument `attention_mask` must be one of a single text in each row, but lets no query "
            "see some positions together, as where texts are packed, with position_ids that start "
            "again: pass them as rows of a padded batch."
        )
    size = int(sizes.max())
    in_order = bool(((rows == torch.arange(keys, device=rows.device)) | ~live).all())
    causal = torch.ones_like(mask[:1, :1]).tril(keys - queries)
    is_causal = in_order and size == keys and bool((mask == causal).all())
    # A key that no query sees has no position: any row will do.
    return Positions(is_causal, None if in_order else rows.clamp_min(0), size)


def counted(
    padding_mask: Bool[Tensor, "batch positions"] | None,
    first: int,
    num_keys: int,
    device: torch.device,
) -> Int[Tensor, "#batch keys"]:
    """The positions of keys from slot `first` on, where the padding mask says what is text."""
    if padding_mask is None:
        return torch.arange(first, first + num_keys, device=device)[None]
    missing = max(0, first + num_keys - padding_mask.shape[-1])
    rows = F.pad(padding_mask.long(), (0, missing)).cumsum(-1) - 1
    return rows[:, first : first + num_keys].clamp_min(0)


def within_window(
    mask: Bool[Tensor, "batch heads queries keys"],
    rows: Int[Tensor, "batch keys"] | None,
    window: int,
) -> Bool[Tensor, "batch heads queries keys"]:
    """The mask that leaves each query the last `window` of the positions that it sees."""
    if rows is None:
        rows = torch.arange(mask.shape[-1], device=mask.device)[None]
    rows = rows[:, None, None]
    last = torch.where(mask, rows, -1).amax(-1, keepdim=True)
    return mask & (rows > last - window)
