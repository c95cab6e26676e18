r"""Attention of a position to the spins of its scope, in two forms that agree.

With the query a, the keys k_j, the values v_j and additive biases b_j of a scope,

.. math::
    \mathrm{out} = \sqrt{w} \sum_j p_j v_j, \qquad
    p_j \propto \exp\big(a \cdot k_j / \sqrt{d_\mathrm{head}} + b_j\big).

Values have the signs of spins and add up at random, hence √w, w the size of the scope: it keeps
the scale of what comes out.

Arrays have *columns* last (reads side by side): products of a query with its few keys are then
long loops of multiplications. Beside scaled_dot_product_attention over gathered keys, one key at a
time for each read, that is five times quicker (16 positions, 32 keys, 64 reads, one thread).
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

CHUNK = 2**19
"""Numbers of gathered keys that are in work at once: what a core's cache holds."""


def gathered(
    query: Float[Tensor, "m h e g c"],
    keys: Float[Tensor, "slots h e g c"],
    values: Float[Tensor, "slots h e g c"],
    bias: Float[Tensor, "m keys h g #c"],
    index: Int[Tensor, "m keys"] | slice,
) -> Float[Tensor, "m h e g c"]:
    """Attention to a few slots of a cache, without the factor √w.

    Args:
        query: Scaled queries of m positions, h heads, columns of each group last.
        keys: Of all slots; the last one pads.
        values: As `keys`.
        bias: Added to the scores, -∞ where a key is not to be seen.
        index: Slots of the keys of each position; or a slice of slots for one position.
    """
    if isinstance(index, slice):
        keys, values = keys[index].unsqueeze(0), values[index].unsqueeze(0)
        return _mean(_weights(query, keys, bias), values)
    out: Tensor = _Gathered.apply(query, keys, values, bias, index)
    return out


class _Gathered(torch.autograd.Function):
    """Some positions at a time; backward gathers again, and keeps nothing in between."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, keys: Tensor, values: Tensor, bias: Tensor, index: Tensor
    ) -> Tensor:
        ctx.save_for_backward(query, keys, values, bias, index)
        out = torch.empty_like(query)
        for rows, slots in _chunks(index, keys):
            weights = _weights(query[rows], keys[slots], bias[rows, : slots.shape[1]])
            out[rows] = _mean(weights, values[slots])
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, keys, values, bias, index = ctx.saved_tensors
        of_query, of_keys, of_values, of_bias = map(torch.zeros_like, (query, keys, values, bias))
        for rows, slots in _chunks(index, keys):
            k, q, grad = keys[slots], query[rows].unsqueeze(1), grads[0][rows].unsqueeze(1)
            weights = _weights(query[rows], k, bias[rows, : slots.shape[1]])
            # Of a softmax: p_j (g_j - Σ_k p_k g_k), with g_j the gradient times the value.
            of_weights = weights * (values[slots] * grad).sum(3)
            of_scores = of_weights - weights * of_weights.sum(1, keepdim=True)
            of_bias[rows, : slots.shape[1]] = of_scores.sum_to_size(
                *of_scores.shape[:4], bias.shape[4]
            )
            of_query[rows] = _mean(of_scores, k)
            flat = slots.flatten()
            of_keys.index_add_(0, flat, (of_scores.unsqueeze(3) * q).flatten(0, 1))
            of_values.index_add_(0, flat, (weights.unsqueeze(3) * grad).flatten(0, 1))
        return of_query, of_keys, of_values, of_bias, None


def _chunks(index: Tensor, keys: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Positions that are in work together, and the slots of their keys without common padding."""
    step = max(1, CHUNK // max(1, index.shape[1] * keys[0].numel()))
    for start in range(0, len(index), step):
        rows = slice(start, start + step)
        width = int((index[rows] < len(keys) - 1).sum(1).max())
        yield rows, index[rows, :width]


def _weights(query: Tensor, keys: Tensor, bias: Tensor) -> Tensor:
    """Weights of keys, (positions, keys, heads, g, columns)."""
    return ((keys * query.unsqueeze(1)).sum(3) + bias).softmax(1)


def _mean(weights: Tensor, values: Tensor) -> Tensor:
    """Weighted sum of values over keys."""
    return (values * weights.unsqueeze(3)).sum(1)


def masked(
    query: Float[Tensor, "m h e g c"],
    keys: Float[Tensor, "slots h e g c"],
    values: Float[Tensor, "slots h e g c"],
    bias: Float[Tensor, "m keys h g #c"],
    index: Int[Tensor, "m keys"],
) -> Float[Tensor, "m h e g c"]:
    """As :func:`gathered`, by products with the keys of all slots and a mask."""
    # Biases of all slots for each position: -∞ where there is no key, and at padding.
    slots = index[:, :, None, None, None].expand(bias.shape)
    everywhere = bias.new_full((len(index), len(keys), *bias.shape[2:]), -torch.inf)
    out = scaled_dot_product_attention(
        *(x.permute(3, 4, 1, 0, 2) for x in (query, keys, values)),
        everywhere.scatter(1, slots, bias).permute(3, 4, 2, 0, 1),
        scale=1.0,
    )
    return out.permute(3, 2, 4, 0, 1)
