"""A call of Boltzmann attention in one form: four axes, one for all sequences, J for each head."""

from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qattn.attention.masks import num_rows, split_mask
from qattn.couplings import Couplings


@dataclass(frozen=True)
class Call:
    """What :func:`qattn.boltzmann_weights` was given, with one axis for all sequences.

    Attributes:
        query: Queries.
        key: Keys; a head may be that of several successive heads of queries.
        couplings: J of each head, or of each head of each sequence.
        mask: Where a query sees a position, if a mask was given.
        position_bias: What is added to the scores, the numbers of a mask among it.
        rows: The row of J of each position, if they were given.
        batch: The axes of the sequences.
    """

    query: Float[Tensor, "sequences heads queries head_dim"]
    key: Float[Tensor, "sequences key_heads positions head_dim"]
    couplings: Tensor | Couplings
    mask: Bool[Tensor, "#sequences #heads #queries positions"] | None
    position_bias: Float[Tensor, "#sequences #heads #queries positions"] | None
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
        TypeError: A mask or rows are of a wrong dtype.
    """
    _check_axes(query, key)
    batch = broadcast_axes("key", query.shape[:-3], key.shape[:-3])
    heads = check_heads("key", query.shape[-3], key.shape[-3], enable_gqa)
    queries, positions = query.shape[-2], key.shape[-2]
    if isinstance(couplings, Couplings):
        couplings = couplings.repeated(heads) if couplings.num_groups == 1 else couplings
    elif couplings.shape[:-2] in ((), (1,)) and couplings.ndim > 1:
        couplings = couplings.expand(heads, -1, -1)
    if position_bias is not None:
        shapes = [(number, queries, positions) for number in (heads, 1)]
        if tuple(position_bias.shape) not in shapes:
            raise ValueError(
                f"Argument `position_bias` must have shape (heads, queries, positions) = "
                f"{shapes[0]}, or 1 for all heads, but has shape {tuple(position_bias.shape)}."
            )
        position_bias = position_bias.unsqueeze(0)
    mask, added = split_mask(_checked_mask(attn_mask, (*batch, heads, queries, positions)))
    if added is not None:
        position_bias = added if position_bias is None else position_bias + added
    query = query.expand(*batch, heads, -1, -1)
    key = key.expand(*batch, -1, -1, -1)
    return Call(
        query.flatten(0, -4) if batch else query.unsqueeze(0),
        key.flatten(0, -4) if batch else key.unsqueeze(0),
        couplings,
        mask,
        position_bias,
        None if rows is None else _checked_rows(rows, batch, positions),
        batch,
    )


def check_call(
    call: Call, field_bias: Tensor | float | None, is_causal: bool, beta: float | Tensor
) -> None:
    """Raise a ValueError unless couplings, biases and β go with queries and keys."""
    heads, queries = call.query.shape[1:3]
    positions, couplings = call.key.shape[2], call.couplings
    spins = num_rows(couplings)
    fits = spins == positions or call.rows is not None
    if isinstance(couplings, Couplings):
        groups = {heads, call.num_sequences * heads}
        if not fits or couplings.num_groups not in groups:
            raise ValueError(
                f"Argument `couplings` must have {positions} spins, and {heads} groups (heads) or "
                f"{call.num_sequences * heads} (sequences times heads), but has "
                f"{couplings.num_spins} spins and {couplings.num_groups} groups{_hint(call)}."
            )
    elif not fits or tuple(couplings.shape) != (heads, spins, spins):
        raise ValueError(
            f"Argument `couplings` must have shape (heads, positions, positions) = "
            f"{(heads, positions, positions)}, but has shape {tuple(couplings.shape)}{_hint(call)}."
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


def _hint(call: Call) -> str:
    more = num_rows(call.couplings) > call.key.shape[2] and call.rows is None
    return ": pass rows=, the row of J of each position" if more else ""


def check_value(value: Tensor, query: Tensor, key: Tensor, enable_gqa: bool) -> None:
    """Raise a ValueError unless queries, keys and values go together."""
    _check_axes(query, key)
    if value.ndim < 3 or value.shape[-2] != key.shape[-2]:
        raise ValueError(
            f"Argument `value` must have shape (…, heads, positions, value_dim) like `key` "
            f"{tuple(key.shape)}, but has shape {tuple(value.shape)}."
        )
    heads = check_heads("key", query.shape[-3], key.shape[-3], enable_gqa)
    check_heads("value", heads, value.shape[-3], enable_gqa)
    batch = broadcast_axes("key", query.shape[:-3], key.shape[:-3])
    broadcast_axes("value", batch, value.shape[:-3])


def check_heads(name: str, heads: int, own: int, enable_gqa: bool) -> int:
    """The number of heads, of which keys or values have one for each, for some, or for all.

    Raises:
        ValueError: The two numbers do not go together.
    """
    if own in (heads, 1) or (enable_gqa and heads % own == 0):
        return heads
    if heads == 1 and name == "key":
        return own
    hint = ", or a divisor of it" if enable_gqa else ": pass enable_gqa=True for a divisor of it"
    raise ValueError(
        f"Argument `{name}` must have as many heads as `query`, {heads}, or 1{hint}, but has {own}."
    )


def broadcast_axes(name: str, batch: tuple[int, ...], own: tuple[int, ...]) -> tuple[int, ...]:
    """The batch axes of two arguments.

    Raises:
        ValueError: They do not go together.
    """
    try:
        return tuple(torch.broadcast_shapes(batch, own))
    except RuntimeError:
        raise ValueError(
            f"Argument `{name}` must have batch axes that go with {tuple(batch)}, but has "
            f"{tuple(own)}."
        ) from None


def _check_axes(query: Tensor, key: Tensor) -> None:
    if query.ndim < 3:
        raise ValueError(
            f"Argument `query` must have shape (…, heads, queries, head_dim), "
            f"but has shape {tuple(query.shape)}."
        )
    if key.ndim < 3 or key.shape[-1] != query.shape[-1]:
        raise ValueError(
            f"Argument `key` must have shape (…, heads, positions, head_dim) like `query` "
            f"{tuple(query.shape)}, but has shape {tuple(key.shape)}."
        )
    if 0 in query.shape[:-1] or 0 in key.shape[:-1]:
        raise ValueError(
            f"Arguments `query` and `key` must have at least 1 sequence, head, query and position, "
            f"but have shapes {tuple(query.shape)} and {tuple(key.shape)}."
        )


def _checked_mask(mask: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
    """A mask with one axis for all sequences; axes along which it is the same have length 1."""
    if mask is None:
        return None
    if not (mask.dtype == torch.bool or mask.is_floating_point()):
        raise TypeError(
            f"Argument `attn_mask` must be boolean or floating, but is {mask.dtype}: "
            f"pass attn_mask.bool() for a mask of 0 and 1."
        )
    try:
        together = tuple(torch.broadcast_shapes(mask.shape, shape))
    except RuntimeError:
        together = ()
    if together != shape:
        raise ValueError(
            f"Argument `attn_mask` must broadcast to (…, heads, queries, positions) = {shape}, "
            f"but has shape {tuple(mask.shape)}."
        )
    mask = mask.reshape((1,) * (len(shape) - mask.ndim) + tuple(mask.shape))
    mask = mask.expand(*mask.shape[:-1], shape[-1])
    if not shape[:-3]:
        return mask.unsqueeze(0)
    same = all(length == 1 for length in mask.shape[:-3])
    return mask.expand(*(mask.shape[:-3] if same else shape[:-3]), -1, -1, -1).flatten(0, -4)


def _checked_rows(rows: Tensor, batch: tuple[int, ...], positions: int) -> Tensor:
    """Rows with one axis for all sequences, of length 1 where they agree."""
    if rows.is_floating_point() or rows.is_complex() or rows.dtype == torch.bool:
        raise TypeError(
            f"Argument `rows` must hold whole numbers, the row of J of each position, but is "
            f"{rows.dtype}."
        )
    axes = tuple(rows.shape[:-1])
    try:
        fits = tuple(torch.broadcast_shapes(axes, batch)) == batch
    except RuntimeError:
        fits = False
    if rows.ndim == 0 or rows.shape[-1] != positions or not fits:
        raise ValueError(
            f"Argument `rows` must have shape (positions,) = ({positions},), or (…, positions) = "
            f"{(*batch, positions)}, but has shape {tuple(rows.shape)}."
        )
    if all(length == 1 for length in axes):
        return rows.reshape(1, positions)
    return rows.expand(*batch, positions).reshape(-1, positions)
