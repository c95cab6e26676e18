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

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

CHUNK = 2**19
"""Numbers of gathered keys that are in work at once: what a core's cache holds."""

CHUNK_WITH_GRADIENTS = 2**24
"""The same where gradients are asked for: each chunk then costs a pass over all keys."""


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
        keys: Of all slots.
        values: As `keys`.
        bias: Added to the scores, -∞ where a key is not to be seen.
        index: Slots of the keys of each position; or a slice of slots for one position.
    """
    if isinstance(index, slice):
        return _attend(query, keys[index].unsqueeze(0), values[index].unsqueeze(0), bias)
    grad = torch.is_grad_enabled()
    limit = CHUNK_WITH_GRADIENTS if grad else CHUNK
    step = max(1, limit // max(1, index.shape[1] * keys[0].numel()))
    found = []
    for start in range(0, len(index), step):
        rows = slice(start, start + step)
        chunk = query[rows], keys, values, bias[rows], index[rows]
        found.append(checkpoint(_chunk, *chunk, use_reentrant=False) if grad else _chunk(*chunk))
    return torch.cat(found) if found else query


def _chunk(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor, index: Tensor) -> Tensor:
    shape = (*index.shape, *keys.shape[1:])
    k, v = (x.index_select(0, index.flatten()).view(shape) for x in (keys, values))
    return _attend(query, k, v, bias)


def _attend(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """Keys and values of each position: (positions, keys, heads, e, g, columns)."""
    weights = ((keys * query.unsqueeze(1)).sum(3) + bias).softmax(1)
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
