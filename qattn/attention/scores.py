"""Products of attention: scores of queries and keys, and sums of values with weights."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def scores(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch key_heads positions head_dim"],
    scale: float,
    field_bias: Float[Tensor, "*heads"] | None,
    position_bias: Float[Tensor, "*#where #queries positions"] | None,
    *,
    factor: float | Float[Tensor, "heads 1 1"] = 1.0,
) -> Float[Tensor, "batch heads queries positions"]:
    """q·k·scale + b + position bias, times `factor`; the query axis is the last one in memory."""
    query = query * (scale * factor)
    if field_bias is not None:
        field_bias = factor * field_bias.to(query.dtype).reshape(-1, 1, 1)
    many = query.shape[2] > query.shape[3]
    if field_bias is not None and many:
        # One component more of every query, and 1 of every key: no pass over the scores.
        query = torch.cat([query, field_bias.expand(*query.shape[:3], 1)], -1)
        key = F.pad(key, (0, 1), value=1.0)
    product = _products(query, key)
    if field_bias is not None and not many:
        product = product + field_bias  # fewer numbers than the keys have
    if position_bias is None:
        return product
    position_bias = position_bias.to(product.dtype)
    if isinstance(factor, Tensor):
        return product + factor * position_bias
    return torch.add(product, position_bias, alpha=factor)


def _products(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch key_heads positions head_dim"],
) -> Float[Tensor, "batch heads queries positions"]:
    """q·k; a head of keys is that of successive heads of queries."""
    shared = query.shape[1] // key.shape[1]
    if shared > 1 and query.shape[2] <= query.shape[3]:
        # Fewer numbers than the keys hold: all their queries together, the keys where they are.
        product = key @ query.unflatten(1, (-1, shared)).flatten(2, 3).mT
        apart: Tensor = product.unflatten(3, (shared, -1)).transpose(2, 3)
        return apart.flatten(1, 2).mT
    key = key if shared == 1 else key.repeat_interleave(shared, 1)
    return (key @ query.mT).mT


def weighted(
    weights: Float[Tensor, "*batch heads queries positions"],
    value: Float[Tensor, "*valuebatch value_heads positions value_dim"],
) -> Float[Tensor, "*out heads queries value_dim"]:
    """Σ_j w_ij v_j in the dtype of `value`, of which a head is that of successive heads."""
    shared, weights = weights.shape[-3] // value.shape[-3], weights.to(value.dtype)
    if shared > 1 and weights.shape[-2] < value.shape[-1]:
        together = weights.unflatten(-3, (-1, shared)).flatten(-3, -2) @ value
        apart: Tensor = together.unflatten(-2, (shared, -1))
        return apart.flatten(-4, -3)
    value = value if shared == 1 else value.repeat_interleave(shared, -3)
    return weights @ value
