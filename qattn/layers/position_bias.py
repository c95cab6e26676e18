"""Biases of the scores that depend on the positions of query and key."""

import torch
from jaxtyping import Float
from torch import Tensor

POSITION_BIASES = ("none", "relative", "absolute")
"""The kinds by the name that layers and the command line use."""


def unbiased(kind: str, num_heads: int, context: int) -> Tensor | None:
    """The numbers of a bias of this kind, all 0; None for none.

    Raises:
        ValueError: There is no such kind.
    """
    if kind not in POSITION_BIASES:
        names = ", ".join(repr(name) for name in POSITION_BIASES)
        raise ValueError(f"Argument `position_bias` must be one of {names}, but is {kind!r}.")
    if kind == "none":
        return None
    return torch.zeros(num_heads, *(context,) * POSITION_BIASES.index(kind))


def position_bias(
    values: Float[Tensor, "heads distances"] | Float[Tensor, "heads context context"],
    num_queries: int,
    num_positions: int,
) -> Float[Tensor, "heads queries positions"]:
    """The bias of the last queries at all positions.

    Args:
        values: By distance |i - j| of query and position, or by query and position.
        num_queries: Number of queries, of which the last is at the last position.
        num_positions: Number of positions.
    """
    Q, n = num_queries, num_positions
    if values.ndim == 3:
        return values[:, n - Q : n, :n]
    # Query n - Q + q and position j stand at place n - 1 + q - j of [v_(Q-1) … v_1, v_0 … v_(n-1)].
    # A window of Q places for each j: the order of the scores, whose query axis is last in memory.
    line = torch.cat([values[:, 1:Q].flip(1), values[:, :n]], 1)
    return line.unfold(1, Q, 1).flip(1).mT
