r"""Regimes of a query: over how many positions its attention weight is spread.

The measure is k, the least number of positions that together hold a share 0.9 of the weight, of the
n that are present (Ramsauer et al., "Hopfield Networks is All You Need", ICLR 2021, whose borders
n/2 and n/32 these are):

=========== ===================== ===========================================
averaging   k > n/2               a mean over most positions
clustered   1, n/32 < k ≤ n/2     a mean over some of them, a metastable state
retrieval   k ≤ n/32, or k = 1    a few positions, or one
=========== ===================== ===========================================

Weights of Boltzmann attention need not sum to one: what counts is the share of their sum.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int, Int8
from torch import Tensor

REGIMES = ("averaging", "clustered", "retrieval")
"""Names of the regimes 0, 1, 2."""

AVERAGING, RETRIEVAL = 1 / 2, 1 / 32
"""Borders of k/n: above the one a query averages, up to the other it retrieves."""

LEAST_POSITIONS = 4
"""Positions that a query needs to have a regime: among fewer, no k is clustered."""


def positions_held(weights: Float[Tensor, "*batch n"], share: float = 0.9) -> Int[Tensor, "*batch"]:
    r"""Least number k of positions that hold a share of the weight, those of largest weight.

    Args:
        weights: Attention weights, not negative; absent positions have 0. A query whose weights
            are all zero has k = 0.
        share: Share of the sum of the weights, in (0, 1].

    Raises:
        ValueError: `share` is out of range, or a weight is negative or NaN.

    >>> positions_held(torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.9, 0.05, 0.05, 0.0]]))
    tensor([4, 1])
    """
    if not 0 < share <= 1:
        raise ValueError(f"Argument `share` must be above 0 and at most 1, but is {share}.")
    if not bool((weights >= 0).all()):
        raise ValueError("Argument `weights` must not hold negative numbers or NaN, but does.")
    held = weights.double().sort(-1, descending=True).values.cumsum(-1)
    # All but rounding of the share: 0.9 of ten equal weights are nine.
    missing = held < share * held[..., -1:] * (1 - 1e-6)
    return missing.sum(-1) + (held[..., -1] > 0)


def regimes_of(
    weights: Float[Tensor, "*batch n"],
    *,
    share: float = 0.9,
    present: Bool[Tensor, "*#batch n"] | None = None,
) -> Int8[Tensor, "*batch"]:
    """Regime of each query, an index of :data:`REGIMES`; -1 where it has none.

    Args:
        weights: Attention weights, not negative.
        share: Share of the weight that k positions hold.
        present: True at the positions that a query sees; None means all of them.

    A query has no regime if it sees fewer than :data:`LEAST_POSITIONS`, or attends to none.

    Raises:
        ValueError: As :func:`positions_held`.

    >>> peaked = torch.tensor([0.97, 0.01, 0.01, 0.01])
    >>> [REGIMES[i] for i in regimes_of(torch.stack([peaked, torch.full((4,), 0.25)]))]
    ['retrieval', 'averaging']
    """
    k = positions_held(weights, share)
    n = k.new_tensor(weights.shape[-1]) if present is None else present.sum(-1)
    found = torch.ones_like(k, dtype=torch.int8)
    found[k > AVERAGING * n] = 0
    found[k <= (RETRIEVAL * n).clamp_min(1)] = 2
    found[(k == 0) | (n < LEAST_POSITIONS)] = -1
    return found


def regimes_by_head(
    weights: Sequence[Float[Tensor, "batch heads queries positions"]],
    *,
    share: float = 0.9,
    is_causal: bool = True,
) -> Float[Tensor, "layers heads regimes"]:
    """Shares of the queries in each regime, by layer and head; NaN where no query has one.

    Args:
        weights: Attention weights of each layer, as :meth:`qattn.transformer.Transformer` gives
            them with ``model.attention_weights(tokens)``; heads as many in each layer.
        share: Share of the weight that k positions hold.
        is_causal: Query i sees positions j ≤ i only, fewer queries than positions the last ones.

    Raises:
        ValueError: As :func:`positions_held`, or `weights` is empty.
    """
    if not weights:
        raise ValueError("Argument `weights` must have at least one layer, but has none.")
    shares = []
    for layer in weights:
        queries, positions = layer.shape[-2:]
        present = torch.ones(queries, positions, dtype=torch.bool, device=layer.device)
        if is_causal:
            present = present.tril(positions - queries)
        found = regimes_of(layer, share=share, present=present).transpose(0, 1).flatten(1)
        counts = torch.stack([(found == r).sum(-1) for r in range(len(REGIMES))], -1).double()
        shares.append(counts / counts.sum(-1, keepdim=True))
    return torch.stack(shares)
