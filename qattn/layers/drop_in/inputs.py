"""What ``nn.MultiheadAttention`` may be given: shapes, and two masks in one."""

from collections.abc import Mapping

import torch
from torch import Tensor

from qattn.attention.masks import split_mask


def check_shapes(
    inputs: tuple[Tensor, Tensor, Tensor], widths: Mapping[str, int], batch_first: bool
) -> None:
    """Raise a ValueError unless inputs go together.

    Args:
        inputs: Queries, keys and values.
        widths: The width of each by name.
        batch_first: Whether their first axis is that of sequences.
    """
    query, key, value = inputs
    axes = ("batch", "{}") if batch_first else ("{}", "batch")
    for (name, width), x in zip(widths.items(), inputs, strict=True):
        if x.ndim not in (2, 3) or x.ndim != query.ndim or x.shape[-1] != width:
            shape = ", ".join(axes).format("queries" if name == "query" else "keys")
            raise ValueError(
                f"Argument `{name}` must have shape ({shape}, {width}), or all inputs be one "
                f"sequence without the batch axis, but has shape {tuple(x.shape)}."
            )
    batch = 0 if batch_first else 1
    if key.shape[:-1] != value.shape[:-1]:
        raise ValueError(
            f"Argument `value` must have as many keys and sequences as `key` "
            f"{tuple(key.shape)}, but has shape {tuple(value.shape)}."
        )
    if query.ndim == 3 and query.shape[batch] != key.shape[batch]:
        raise ValueError(
            f"Argument `key` must have the {query.shape[batch]} sequences of `query` on axis "
            f"{batch}, but has shape {tuple(key.shape)}."
        )


def check_mask(name: str, mask: Tensor | None, *shapes: tuple[int, ...]) -> None:
    """Raise an error unless a mask has a dtype of masks and one of these shapes."""
    if mask is None:
        return
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise TypeError(
            f"Argument `{name}` must be boolean or floating, but is {mask.dtype}: pass "
            f"mask.bool() if 1 means a key that is not attended to."
        )
    if tuple(mask.shape) not in shapes:
        raise ValueError(
            f"Argument `{name}` must have shape {' or '.join(map(str, shapes))}, "
            f"but has shape {tuple(mask.shape)}."
        )


def attended(
    attn_mask: Tensor | None, key_padding_mask: Tensor | None, num_heads: int
) -> Tensor | None:
    """Both masks in one that says what is attended to, as the function's does."""
    if attn_mask is not None and attn_mask.ndim == 3:
        attn_mask = attn_mask.unflatten(0, (-1, num_heads))
    if key_padding_mask is not None:
        key_padding_mask = key_padding_mask[:, None, None]
    merged: Tensor | None = None
    for mask in (attn_mask, key_padding_mask):
        if mask is not None:
            mask = ~mask if mask.dtype == torch.bool else mask
            merged = mask if merged is None else _both(merged, mask)
    return merged


def _both(a: Tensor, b: Tensor) -> Tensor:
    """The mask that has what is absent in one of two, and adds what both add."""
    if a.dtype == b.dtype == torch.bool:
        return a & b
    numbers = [torch.where(x, 0.0, -torch.inf) if x.dtype == torch.bool else x for x in (a, b)]
    present, added = zip(*map(split_mask, numbers), strict=True)
    return torch.where(present[0] & present[1], added[0] + added[1], -torch.inf)
