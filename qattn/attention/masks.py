"""Masked positions as absent spins: queries become smaller Ising models, whose spins come first.

Engines and backends know the first spins of a model as present and the others as absent
(:attr:`qattn.IsingBatch.lengths`). Queries with other absent positions are given spins in an order
of their own, present ones first: what is computed with is nothing but smaller models.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from qattn.couplings import Couplings


def split_mask(
    attn_mask: Tensor | None,
) -> tuple[Bool[Tensor, "*shape"] | None, Float[Tensor, "*shape"] | None]:
    """What a mask says of presence, and what it adds to the scores.

    A boolean mask is True where a query attends. A mask of numbers is added to the scores; where it
    is -∞, or the lowest number of its dtype as others write it, a position is absent.
    """
    if attn_mask is None or attn_mask.dtype == torch.bool:
        return attn_mask, None
    present = attn_mask > torch.finfo(attn_mask.dtype).min
    return present, attn_mask.masked_fill(~present, 0.0)


Lengths = Int[Tensor, "#batch #heads queries"]
"""How many positions, the first ones, each query sees; on the CPU."""


def causal_lengths(is_causal: bool, num_queries: int, num_positions: int) -> Lengths | None:
    """How many positions each query sees, the last one all of them; None where all do."""
    if not is_causal or num_queries == 1:
        return None
    lengths = torch.arange(num_positions - num_queries + 1, num_positions + 1, device="cpu")
    return lengths[None, None]


def with_lengths(
    mask: Bool[Tensor, "#batch #heads queries positions"] | None,
    lengths: Lengths | None,
    num_positions: int,
    device: torch.device,
) -> Bool[Tensor, "#batch #heads queries positions"]:
    """A mask that leaves each query only the first of its positions, by `lengths`."""
    if lengths is None:
        assert mask is not None
        return mask
    first = torch.arange(num_positions, device="cpu") < lengths.unsqueeze(-1)
    return first.to(device) if mask is None else mask & first.to(device)


class Prefixes(NamedTuple):
    """The spins of queries in an order in which each query sees the first ones.

    Attributes:
        index: The key that each spin is.
        lengths: Number of spins of each query, on the CPU.
        is_single: Whether a model is one query, and not a head with all its queries.
    """

    index: Int[Tensor, "batch heads spins"] | Int[Tensor, "batch heads queries spins"]
    lengths: Int[Tensor, "batch heads queries"]
    is_single: bool


def prefixes(mask: Bool[Tensor, "batch heads queries positions"]) -> Prefixes:
    """The order of spins that a mask needs: one for all queries of a head, or one for each query.

    One is enough where the queries of a head see the first of those positions that any of them
    sees, as with padding, with a causal mask, and with both.
    """
    seen = mask.sum(-1)
    union = mask.any(2)
    # Position j is number rank_j of those that some query sees; a query sees the first ones of
    # them if its last one has the rank that it has among its own.
    rank = union.cumsum(-1)
    last = (mask * rank.unsqueeze(2)).amax(-1)
    is_single = bool((last != seen).any())
    source = mask if is_single else union
    size = max(1, int(source.sum(-1).max()))
    # Stable: present ones come first, each part in the order of positions.
    index = (~source).to(torch.uint8).argsort(dim=-1, stable=True)[..., :size]
    return Prefixes(index, seen.cpu(), is_single)


@dataclass(frozen=True)
class Compacted:
    """The problem of a mask without its absent spins, and the way back.

    Attributes:
        fields: Those of present spins; a model is a head, or a head's query.
        couplings: Those among them, of each model, or of each model of each sequence.
        lengths: Number of spins of each query.
        beta: A number, or one for each model.
        index: The position that each spin stands for; None where they are the first positions.
        shape: Sequences, heads, queries and positions.
    """

    fields: Float[Tensor, "batch models queries spins"]
    couplings: Tensor | Couplings
    lengths: Lengths
    beta: float | Tensor
    index: Int[Tensor, "#batch #heads #queries spins"] | None
    shape: tuple[int, int, int, int]

    def placed(
        self, weights: Float[Tensor, "batch models queries spins"]
    ) -> Float[Tensor, "batch heads queries positions"]:
        """Weights of the spins at their positions, 0 elsewhere."""
        B, H, Q, n = self.shape
        if self.index is None:
            return F.pad(weights, (0, n - weights.shape[-1]))
        spins = weights.reshape(B, H, Q, -1)
        # Absent spins have weight 0, so that it does not matter which position they stand for.
        return spins.new_zeros(B, H, Q, n).scatter_add(-1, self.index.expand(B, H, Q, -1), spins)


def compacted(
    fields: Float[Tensor, "batch heads queries positions"],
    couplings: Tensor | Couplings,
    beta: float | Tensor,
    mask: Bool[Tensor, "#batch #heads queries positions"],
    rows: Int[Tensor, "#batch positions"] | None,
) -> Compacted:
    """The models of present spins.

    Args:
        fields: Fields of all positions.
        couplings: J of all rows, for each head, or for each head of each sequence.
        beta: Inverse temperature, a number or one for each head.
        mask: Where a query sees a position.
        rows: The row of J of each position; None for 0, 1, ….
    """
    shape = B, H, Q, n = tuple(fields.shape)
    mask, seen = _common(mask), mask.sum(-1)
    if rows is None and bool(
        (mask == (torch.arange(n, device=mask.device) < seen[..., None])).all()
    ):
        # The first positions everywhere: all sequences of a head keep one J.
        m = max(1, int(seen.max()))
        return Compacted(fields[..., :m], leading(couplings, m), seen.cpu(), beta, None, shape)
    rows = torch.arange(n, device=mask.device)[None] if rows is None else _common(rows)
    own = num_groups(couplings) > H
    if own or len(rows) > len(mask):
        mask = mask.expand(B, -1, -1, -1)
    # Positions in the order of their rows, as structures need it.
    order = rows.argsort(dim=-1, stable=True).expand(len(mask), -1)[:, None, None]
    found = prefixes(mask.gather(-1, order.expand_as(mask)))
    index = found.index if found.is_single else found.index.unsqueeze(2)
    index = order.expand(*index.shape[:-1], n).gather(-1, index)
    b = len(index)
    spins, lengths = fields.gather(-1, index.expand(B, H, Q, -1)), found.lengths
    # The rows of J of each model, and the group that it takes them from.
    row = rows.expand(b, -1)[:, None, None].expand(*index.shape[:-1], n).gather(-1, index)
    row = row.expand(b, H, -1, -1)
    group = torch.arange(b * H if own else H, device=index.device).reshape(-1, H, 1)
    group = group.expand(b, H, row.shape[2]).flatten()
    if found.is_single:
        spins = spins.flatten(1, 2).unsqueeze(2)
        lengths = lengths.expand(-1, H, -1).flatten(1).unsqueeze(2)
        if isinstance(beta, Tensor) and beta.ndim:
            beta = beta.repeat_interleave(Q)
    J = restricted(couplings, group, row.flatten(0, 2))
    return Compacted(spins, J, lengths, beta, index, shape)


def num_groups(couplings: Tensor | Couplings) -> int:
    """Number of groups of couplings."""
    return couplings.num_groups if isinstance(couplings, Couplings) else len(couplings)


def leading(couplings: Tensor | Couplings, size: int) -> Tensor | Couplings:
    """The couplings among the first positions."""
    if isinstance(couplings, Couplings):
        return couplings if couplings.num_spins == size else couplings.leading(size)
    return couplings[:, :size, :size]


def restricted(
    couplings: Tensor | Couplings,
    group: Int[Tensor, " models"],
    rows: Int[Tensor, "models spins"],
) -> Tensor | Couplings:
    """The couplings of each model: among these rows, in ascending order, of its group's."""
    if isinstance(couplings, Couplings):
        return couplings.restricted(group, rows)
    return couplings[group[:, None, None], rows[:, :, None], rows[:, None, :]]


def _common(x: Tensor) -> Tensor:
    """The first of equal sequences, or all of them where they differ."""
    agree = len(x) == 1 or x.stride(0) == 0 or bool((x == x[:1]).all())
    return x[:1] if agree else x
