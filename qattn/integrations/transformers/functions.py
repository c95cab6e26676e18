"""The functions that transformers calls: one makes a pass's mask, one computes attention."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from qattn.integrations.transformers.pattern import AttachedPattern, attend
from qattn.integrations.transformers.positions import counted, positions_of

IMPLEMENTATION = "boltzmann"
"""The name of Boltzmann attention in transformers: that of ``attn_implementation``, and of the
submodule that holds the couplings of an attention module."""

UNSUPPORTED = ("softcap", "s_aux", "head_mask", "position_bias")
"""Arguments of other attention functions that change the scores or weights."""


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Boltzmann attention as transformers calls an attention function.

    Args:
        module: The attention module, which has an :class:`AttachedPattern`.
        query: Shape (batch, heads, queries, head_dim).
        key: Shape (batch, key heads, keys, head_dim).
        value: Values, one for each key.
        attention_mask: True where a query attends, or numbers that are added to the scores, shape
            (batch, 1 or heads, queries, keys); None for all that a query can see.
        dropout: Probability with which a weight is set to 0.
        scaling: Factor of q·k; None means 1/√head_dim.
        is_causal: What a query can see; None for what the module says.
        kwargs: What the model passes to every attention function.

    Returns:
        Output, shape (batch, queries, heads, head_dim), and weights, shape (batch, heads, queries,
        keys).

    Raises:
        ValueError: The module has no couplings, the text is too long, or the model asks for what
            has no meaning here.
    """
    pattern = getattr(module, IMPLEMENTATION, None)
    if not isinstance(pattern, AttachedPattern):
        raise ValueError(
            f"This {type(module).__name__} has no couplings: call "
            f"qattn.integrations.transformers.attach(model, context), and load_couplings(model, "
            f"file) if they were saved."
        )
    for name in UNSUPPORTED:
        if kwargs.get(name) is not None:
            raise ValueError(
                f"Boltzmann attention has no `{name}`, which this {type(module).__name__} asks for."
            )
    positions = getattr(attention_mask, "positions", None)
    if attention_mask is None:
        _check_mask_function(module)
    elif positions is None:
        if kwargs.get("sliding_window") is not None:
            raise ValueError(
                "Argument `attention_mask` must have shape (batch, positions) for a model with a "
                "sliding window: a mask of four axes does not say where a window begins."
            )
        # GPT-2 had a column for the next position before transformers 5.
        attention_mask = attention_mask[..., : key.shape[2]]
    output, weights = attend(
        pattern,
        query,
        key,
        value,
        attention_mask,
        positions=positions,
        is_causal=getattr(module, "is_causal", True) if is_causal is None else is_causal,
        dropout_p=dropout,
        scale=scaling,
    )
    return output.transpose(1, 2).contiguous(), weights


def mask(
    *,
    kv_length: int,
    kv_offset: int = 0,
    attention_mask: Tensor | None = None,
    local_size: int | None = None,
    **kwargs: Any,
) -> Tensor:
    """The mask of a pass as transformers asks for it: always one, and boolean.

    It carries the positions of its keys, found once for all layers.

    Args:
        kv_length: Number of keys.
        kv_offset: Slot of the first key.
        attention_mask: What of each sequence is text and not padding.
        local_size: Size of a window, if there is one.
        kwargs: Further ones of ``transformers.masking_utils.sdpa_mask``, whose versions differ.
    """
    kwargs |= {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
    made: Tensor = sdpa_mask(  # type: ignore[assignment]
        kv_length=kv_length,
        kv_offset=kv_offset,
        attention_mask=attention_mask,
        local_size=local_size,
        **kwargs,
    )
    made = made.contiguous()  # `generate` makes it so, and would get a mask without positions
    rows = None
    if local_size is not None:
        rows = counted(attention_mask, kv_offset, kv_length, made.device)
    made.positions = positions_of(made, rows)  # type: ignore[attr-defined]
    return made


def register() -> None:
    """Make both functions known to transformers, by one name.

    What they compute depends on the values of masks, so that ``torch.compile`` calls them as they
    are.
    """
    AttentionInterface.register(IMPLEMENTATION, torch.compiler.disable(attention))
    AttentionMaskInterface.register(IMPLEMENTATION, torch.compiler.disable(mask))


def _check_mask_function(module: nn.Module) -> None:
    """Raise a ValueError if the model has no mask because its attention goes by another name."""
    name = getattr(getattr(module, "config", None), "_attn_implementation", IMPLEMENTATION)
    if name not in AttentionMaskInterface._global_mapping:
        raise ValueError(
            f"Attention implementation {name!r} has no mask function, so that padding and "
            f"causality would be lost: set {IMPLEMENTATION!r}, which has both."
        )
