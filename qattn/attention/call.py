"""A call of Boltzmann attention in one form: four axes, repeated keys, J for each head."""

from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qattn.attention.masks import split_mask
from qattn.couplings import Couplings


@dataclass(frozen=True)
class Call:
    """What :func:`qattn.boltzmann_weights` was given, with one axis for all sequences.

    Attributes:
        query: Queries.
        key: Keys, repeated for groups of heads of queries.
        couplings: J of each head, or of each head of each sequence.
        mask: Where a query sees a position, if a mask was given.
        position_bias: What is added to the scores, the numbers of a mask among it.
        rows: The row of J of each position, if they were given.
        batch: The axes of the sequences.
    """

    query: Float[Tensor, "#sequences heads queries head_dim"]
    key: Float[Tensor, "#sequences heads positions head_dim"]
    couplings: Tensor | Couplings
    mask: Bool[Tensor, "#sequences #heads queries positions"] | None
    position_bias: Float[Tensor, "#sequences #heads queries positions"] | None
    rows: Int[Tensor, "#sequences positions"] | None
    batch: tuple[int, ...]

    @property
    def num_sequences(self) -> int:
        """Number of sequences."""
        return prod(self.batch)


def prepared(
    query: Tensor,
    key: Tensor,
    couplings: Tensor | Couplings,
    attn_mask: Tensor | None,
    position_bias: Tensor | None,
    rows: Tensor | None,
    enable_gqa: bool,
) -> Call:
    """The call in one form.

    Raises:
        ValueError: Shapes do not go together.
    """
    _check_axes(query, key, enable_gqa)
    try:
        batch = tuple(torch.broadcast_shapes(query.shape[:-3], key.shape[:-3]))
    except RuntimeError:
        raise ValueError(
            f"Argument `key` must have batch axes that go with those of `query` "
            f"{tuple(query.shape[:-3])}, but has {tuple(key.shape[:-3])}."
        ) from None
    heads, queries, positions = query.shape[-3], query.shape[-2], key.shape[-2]
    key = key.repeat_interleave(heads // key.shape[-3], -3) if enable_gqa else key
    if isinstance(couplings, Tensor) and couplings.shape[:-2] in ((), (1,)):
        couplings = couplings.expand(heads, -1, -1)
    elif isinstance(couplings, Couplings) and couplings.num_groups == 1:
        couplings = couplings.repeated(heads)
    shape = (*batch, heads, queries, positions)
    if position_bias is not None:
        shapes = [(number, queries, positions) for number in (heads, 1)]
        if tuple(position_bias.shape) not in shapes:
            raise ValueError(
                f"Argument `position_bias` must have shape (heads, queries, positions) = "
                f"{shapes[0]}, or 1 for all heads, but has shape {tuple(position_bias.shape)}."
            )
        position_bias = position_bias.unsqueeze(0)
    if attn_mask is not None:
        if not (attn_mask.dtype == torch.bool or attn_mask.is_floating_point()):
            raise TypeError(
                f"Argument `attn_mask` must be boolean or floating, but is {attn_mask.dtype}: "
                f"pass attn_mask.bool() for a mask of 0 and 1."
            )
        try:
            together = torch.broadcast_shapes(attn_mask.shape, shape)
        except RuntimeError:
            together = ()
        if tuple(together) != shape:
            raise ValueError(
                f"Argument `attn_mask` must broadcast to (…, heads, queries, positions) = {shape}, "
                f"but has shape {tuple(attn_mask.shape)}."
            )
        attn_mask = _by_sequence(attn_mask, shape)
    mask, added = split_mask(attn_mask)
    if added is not None:
        position_bias = added if position_bias is None else position_bias + added
    if rows is not None:
        rows = _checked_rows(rows, batch, positions, couplings)
    return Call(
        query.expand(*batch, *query.shape[-3:]).flatten(0, -4) if batch else query.unsqueeze(0),
        key.expand(*batch, *key.shape[-3:]).flatten(0, -4) if batch else key.unsqueeze(0),
        couplings,
        mask,
        position_bias,
        rows,
        batch,
    )


def check_call(
    call: Call, field_bias: Tensor | float | None, is_causal: bool, beta: float | Tensor
) -> None:
    """Raise a ValueError unless couplings, biases and β go with queries and keys."""
    heads, queries = call.query.shape[1:3]
    positions, couplings = call.key.shape[2], call.couplings
    spins = couplings.num_spins if isinstance(couplings, Couplings) else couplings.shape[-1]
    if isinstance(couplings, Couplings):
        groups = {heads, call.num_sequences * heads}
        if (call.rows is None and spins != positions) or couplings.num_groups not in groups:
            raise ValueError(
                f"Argument `couplings` must have {positions} spins, and {heads} groups (heads) or "
                f"{call.num_sequences * heads} (sequences times heads), but has "
                f"{couplings.num_spins} spins and {couplings.num_groups} groups."
            )
    elif tuple(couplings.shape) != (heads, positions, positions) and (
        call.rows is None or tuple(couplings.shape) != (heads, spins, spins)
    ):
        raise ValueError(
            f"Argument `couplings` must have shape (heads, positions, positions) = "
            f"{(heads, positions, positions)}, but has shape {tuple(couplings.shape)}."
        )
    if is_causal and queries > positions:
        raise ValueError(
            f"Causal attention takes at most as many queries as positions, but `query` has "
            f"{queries} and `key` {positions}: pass is_causal=False."
        )
    if isinstance(field_bias, Tensor) and field_bias.numel() not in (1, heads):
        raise ValueError(
            f"Argument `field_bias` must be a number or have shape (heads,) = ({heads},), "
            f"but has shape {tuple(field_bias.shape)}."
        )
    if isinstance(beta, Tensor) and beta.shape not in ((), (heads,)):
        raise ValueError(
            f"Argument `beta` must be a number or have shape () or (heads,) = ({heads},), "
            f"but has shape {tuple(beta.shape)}."
        )


def check_value(value: Tensor, key: Tensor) -> None:
    """Raise a ValueError unless values go with keys."""
    if value.ndim != key.ndim or value.shape[:-1] != key.shape[:-1]:
        raise ValueError(
            f"Argument `value` must have shape (…, heads, positions, value_dim) like `key` "
            f"{tuple(key.shape)}, but has shape {tuple(value.shape)}."
        )


def _check_axes(query: Tensor, key: Tensor, enable_gqa: bool) -> None:
    if query.ndim < 3:
        raise ValueError(
            f"Argument `query` must have shape (…, heads, queries, head_dim), "
            f"but has shape {tuple(query.shape)}."
        )
    same = key.ndim == query.ndim and key.shape[-1] == query.shape[-1]
    if not same or (key.shape[-3] != query.shape[-3] and not enable_gqa):
        hint = ": pass enable_gqa=True for fewer heads of keys" if same else ""
        raise ValueError(
            f"Argument `key` must have shape (…, heads, positions, head_dim) like `query` "
            f"{tuple(query.shape)}, but has shape {tuple(key.shape)}{hint}."
        )
    if 0 in query.shape[:-1] or 0 in key.shape[:-1]:
        raise ValueError(
            f"Arguments `query` and `key` must have at least 1 sequence, head, query and position, "
            f"but have shapes {tuple(query.shape)} and {tuple(key.shape)}."
        )
    if query.shape[-3] % key.shape[-3]:
        raise ValueError(
            f"Argument `query` must have a multiple of the {key.shape[-3]} heads of `key`, "
            f"but has {query.shape[-3]}."
        )


def _by_sequence(mask: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A mask with one axis for all sequences, of length 1 where they agree."""
    mask = mask.reshape((1,) * (len(shape) - mask.ndim) + tuple(mask.shape))
    heads = mask.shape[-3]
    batch = (1,) if all(length == 1 for length in mask.shape[:-3]) else shape[:-3]
    return mask.expand(*batch, heads, *shape[-2:]).flatten(0, -4) if shape[:-3] else mask[None]


def _checked_rows(
    rows: Tensor, batch: tuple[int, ...], positions: int, couplings: Tensor | Couplings
) -> Tensor:
    if rows.ndim == 0 or rows.shape[-1] != positions or rows.is_floating_point():
        raise ValueError(
            f"Argument `rows` must hold the whole number of a row of J for each of {positions} "
            f"positions, but is {rows.dtype} of shape {tuple(rows.shape)}."
        )
    if rows.ndim > 1:
        return rows.expand(*batch, positions).reshape(-1, positions)
    return rows.unsqueeze(0)
