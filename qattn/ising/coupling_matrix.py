"""The matrix of couplings from its independent entries."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qattn._tracing import cached_constant, is_traced


def coupling_matrix(
    values: Float[Tensor, "heads parameters"], context: int, size: int, relative: bool
) -> Float[Tensor, "heads size size"]:
    """The leading block of J from its independent entries, symmetric with zero diagonal.

    Args:
        values: J_jk for j < k in rows, context · (context - 1)/2 of them; or, relative, the
            couplings at the distances 1 to context - 1.
        context: Number of positions of the whole matrix.
        size: Number of positions of the block.
        relative: Whether J_jk depends on k - j only.
    """
    zero = values.new_zeros(len(values), 1)
    if relative:
        # J_jk stands at place size - 1 - j + k of [v_(size-1) … v_1, 0, v_1 … v_(size-1)]: a row
        # of J is a window on it.
        near = values[:, : size - 1]
        return torch.cat([near.flip(1), zero, near], 1).unfold(1, size, 1).flip(1)
    places = _places if is_traced(values) else _kept_places
    place = places(context, size, values.device)
    return torch.cat([values, zero], 1).index_select(1, place).view(-1, size, size)


def _places(context: int, size: int, device: torch.device) -> Int[Tensor, " pairs"]:
    """Place of each J_jk of the block, by rows, in its entries and the zero that follows them."""
    position = torch.arange(size, device=device)
    low = torch.minimum(position, position[:, None])
    high = torch.maximum(position, position[:, None])
    # Row j begins after j rows of context - 1, context - 2, … entries. The diagonal takes the zero.
    place = low * (2 * context - low - 1) // 2 + high - low - 1
    return place.masked_fill(low == high, context * (context - 1) // 2).flatten()


_kept_places = cached_constant(maxsize=8)(_places)
