"""Masked positions as absent spins: queries become smaller Ising models, whose spins come first.

Engines and backends know the first spins of a model as present and the others as absent
(:attr:`qattn.IsingBatch.lengths`). Queries with other absent positions are given spins in an order
of their own, present ones first: what is computed with is nothing but smaller models. Queries that
need the same J stay together, for the time of an exact engine is that of its different J's:

* all queries of a head, where each sees the first of the rows of J that any of them sees: a causal
  mask, padding on the right, and padding anywhere if the text's rows are given;
* all queries of a head of a sequence, where that is so in each sequence;
* else each query has a J of its own, except where J depends on distances only and the queries see
  the same distances: windows.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch._C._functorch import get_unwrapped, is_batchedtensor, is_functorch_wrapped_tensor
from torch._compile import _disable_dynamo  # torch.compiler.disable would load Dynamo on import
from torch.nn import functional as F

from qattn._tracing import is_traced
from qattn.attention.masks import leading, num_groups, num_rows
from qattn.couplings import Couplings

Mask = Bool[Tensor, "#batch #heads #queries positions"]
Index = Int[Tensor, "#batch #heads #queries spins"]


@dataclass(frozen=True)
class Compacted:
    """The problem of a mask without its absent spins, and the way back.

    Attributes:
        fields: Those of present spins, 0 of absent ones; a model is a head, or a head's query.
        couplings: Those among them, of each model, or of each model of each sequence.
        lengths: Number of spins of each query.
        beta: A number, or one for each model.
        index: The position that each spin stands for; None where they are the first positions.
        shape: Sequences, heads, queries and positions.
    """

    fields: Float[Tensor, "batch models queries spins"]
    couplings: Tensor | Couplings
    lengths: Int[Tensor, "#batch #models queries"]
    beta: float | Tensor
    index: Int[Tensor, "#batch #heads #own spins"] | None
    shape: tuple[int, int, int, int]

    def placed(
        self, weights: Float[Tensor, "#batch models columns spins"]
    ) -> Float[Tensor, "batch heads queries positions"]:
        """Weights of the spins at their positions, 0 elsewhere."""
        B, H, Q, n = self.shape
        if self.index is None:
            return F.pad(weights, (0, n - weights.shape[-1]))
        spins = weights.reshape(len(weights), H, Q, -1).expand(B, -1, -1, -1)
        # Absent spins have weight 0, so that it does not matter which position they stand for.
        return spins.new_zeros(B, H, Q, n).scatter_add(-1, self.index.expand(B, H, Q, -1), spins)


@_disable_dynamo
def compacted(
    fields: Float[Tensor, "batch heads queries positions"],
    couplings: Tensor | Couplings,
    beta: float | Tensor,
    mask: Mask,
    rows: Int[Tensor, "#batch positions"] | None,
) -> Compacted:
    """The models of present spins.

    Args:
        fields: Fields of all positions.
        couplings: J of all rows, for each head, or for each head of each sequence.
        beta: Inverse temperature, a number or one for each head.
        mask: Where a query sees a position.
        rows: The row of J of each position; None for 0, 1, ….

    Raises:
        ValueError: Positions that a query sees have no row of J, or the same.
        NotImplementedError: The mask or the rows are members of a ``torch.func.vmap``.

    Under ``torch.compile`` the graph breaks here, for the number of models is one of values. What
    has no values, in ``torch.export``, say, gets a model of all positions for each query.
    """
    for name, x in (("attn_mask", mask), ("rows", rows)):
        if x is not None and _is_member(x):
            raise NotImplementedError(
                f"Argument `{name}` must be the same for all members of a torch.func.vmap: models "
                f"of different sizes are no members of one. Pass sequences as a batch instead."
            )
    B, H, Q, n = fields.shape
    mask, at = _common(mask), None
    if rows is not None and not _are_first(rows := _common(rows)):
        mask, at = by_row(mask, rows, num_rows(couplings))
    seen = mask.sum(-1)
    lists, count = row_lists(mask, seen)
    size = int(count.max()) if lists is None else lists.shape[-1]
    if lists is None:
        # The first rows everywhere.
        J, row = leading(couplings, size), None
        index = None if at is None else at[:, None, None, :size]
    else:
        row = shared_list(couplings, lists, count)
        J = _models(couplings, row, B, H)
        index = lists
        if at is not None:
            at = at[:, None, None].expand(-1, *lists.shape[1:3], -1)
            index = at.gather(-1, lists.expand(len(at), -1, -1, -1))
    first = fields[..., :size]
    spins = first if index is None else fields.gather(-1, index.expand(B, H, Q, -1))
    # Whatever stands at masked positions, NaN even, does not come into the models.
    absent = torch.arange(size, device=seen.device) >= seen[..., None]
    spins = spins.masked_fill(absent, 0.0)
    lengths = _on_cpu(seen).expand(-1, -1, Q)
    if row is not None and row.shape[2] > 1:
        # A model is a query.
        spins = spins.flatten(1, 2).unsqueeze(2)
        lengths = lengths.expand(-1, H, -1).flatten(1).unsqueeze(2)
        if isinstance(beta, Tensor) and beta.ndim:
            beta = beta.repeat_interleave(Q)
    return Compacted(spins, J, lengths, beta, index, (B, H, Q, n))


def by_row(
    mask: Mask, rows: Int[Tensor, "#batch positions"], num_rows: int
) -> tuple[Bool[Tensor, "#batch #heads #queries rows"], Int[Tensor, "#batch rows"]]:
    """Which rows of J a query sees, and the position that has each row.

    Raises:
        ValueError: Positions that a query sees have no row, or the same.
    """
    b, n = max(len(mask), len(rows)), mask.shape[-1]
    mask, rows = mask.expand(b, -1, -1, -1), rows.expand(b, -1)
    # One row more takes the positions that no query sees, and those that have none.
    visible, outside = mask.any(2).any(1), (rows < 0) | (rows >= num_rows)
    row = rows.masked_fill(outside | ~visible, num_rows)
    position = torch.arange(n, device=row.device).expand(b, -1)
    at = torch.zeros(b, num_rows + 1, dtype=torch.int64, device=row.device)
    seen = torch.zeros(*mask.shape[:3], num_rows + 1, dtype=torch.bool, device=mask.device)
    at = at.scatter(-1, row, position)[:, :num_rows]
    seen = seen.scatter(-1, row[:, None, None].expand_as(mask), mask)[..., :num_rows]
    if _has_values(seen) and bool((seen.sum(-1) != mask.sum(-1)).any()):
        wrong = rows[outside & visible].tolist()
        what = f"holds {wrong[0]}" if wrong else "gives two positions of a sequence the same"
        raise ValueError(
            f"Argument `rows` must give each position that a query sees a row of J of its own, "
            f"0 … {num_rows - 1}, but {what}."
        )
    return seen, at


def row_lists(
    mask: Mask, seen: Int[Tensor, "#batch #heads #queries"]
) -> tuple[Index | None, Int[Tensor, "#batch #heads #queries"]]:
    """The rows of J of models, in ascending order, and how many they are.

    Of as few models as the mask allows; None for 0, 1, … in all of them.

    Args:
        mask: Which rows a query sees.
        seen: Their number.
    """
    if not _has_values(mask):
        return _ascending(mask, mask.shape[-1]), seen
    first = torch.arange(mask.shape[-1], device=mask.device) < seen[..., None]
    if bool((mask == first).all()):
        return None, seen.clamp_min(1)
    for axes in ((0, 2), (2,)):
        union = mask
        for axis in axes:
            union = union.any(axis, keepdim=True)
        count = union.sum(-1)
        lists = _ascending(union, max(1, int(count.max())))
        # Does each query see the first of them? It sees no others than those of the union.
        found = mask.gather(-1, lists.expand(*mask.shape[:3], -1))
        if bool((found | ~first[..., : lists.shape[-1]]).all()):
            return lists, count
    return _ascending(mask, max(1, int(seen.max()))), seen


def shared_list(
    couplings: Tensor | Couplings, lists: Index, count: Int[Tensor, "#batch #heads #queries"]
) -> Index:
    """One list of rows, if the couplings among all of `lists` are those of the first of it."""
    if len(lists) * lists.shape[2] == 1 or not _has_values(lists):
        return lists
    same = _equivalent(couplings, lists)
    if same is None:
        return lists
    longest = same.flatten(0, 2)[count.flatten().argmax()]
    absent = torch.arange(lists.shape[-1], device=lists.device) >= count[..., None]
    return longest[None, None, None] if bool(((same == longest) | absent).all()) else lists


def _equivalent(couplings: Tensor | Couplings, lists: Index) -> Index | None:
    """Rows that have the same couplings as those of `lists`, counted from the first."""
    if isinstance(couplings, Couplings):
        return couplings.equivalent(lists)
    # Equal numbers may have different gradients.
    if not _has_values(couplings) or (couplings.requires_grad and torch.is_grad_enabled()):
        return None
    is_relative = bool((couplings[:, 1:, 1:] == couplings[:, :-1, :-1]).all())
    return lists - lists[..., :1] if is_relative else None


def _models(couplings: Tensor | Couplings, row: Index, B: int, H: int) -> Tensor | Couplings:
    """The couplings of each model, sequence by sequence, head by head, query by query."""
    own = num_groups(couplings) > H
    row = row.expand(B if own else -1, H, -1, -1)
    group = torch.arange(B * H if own else H, device=row.device).reshape(-1, H, 1)
    group, row = group.expand(row.shape[:3]).flatten(), row.flatten(0, 2)
    if isinstance(couplings, Couplings):
        return couplings.restricted(group, row)
    return couplings[group[:, None, None], row[:, :, None], row[:, None, :]]


def _ascending(mask: Bool[Tensor, "*shape n"], size: int) -> Int[Tensor, "*shape size"]:
    """Where a mask is True, in ascending order; 0 beyond."""
    place = (mask.cumsum(-1) - 1).masked_fill(~mask, size)
    position = torch.arange(mask.shape[-1], device=mask.device).expand(mask.shape)
    found = position.new_zeros(*mask.shape[:-1], size + 1).scatter(-1, place, position)
    return found[..., :size]


def _common(x: Tensor) -> Tensor:
    """The first of equal sequences, or all of them where they differ."""
    if len(x) == 1 or x.stride(0) == 0:
        return x[:1]
    return x[:1] if _has_values(x) and bool((x == x[:1]).all()) else x


def _are_first(rows: Int[Tensor, "#batch positions"]) -> bool:
    """Whether they are 0, 1, …."""
    first = torch.arange(rows.shape[-1], device=rows.device)
    return _has_values(rows) and bool((rows == first).all())


def _on_cpu(seen: Tensor) -> Tensor:
    return torch.zeros(seen.shape, dtype=seen.dtype, device="cpu") if seen.is_meta else seen.cpu()


def _has_values(x: Tensor) -> bool:
    """Whether values may be looked at: x is neither traced nor a member of a vmap."""
    return not (is_traced(x) or _is_member(x))


def _is_member(x: Tensor) -> bool:
    while is_functorch_wrapped_tensor(x):
        if is_batchedtensor(x):
            return True
        x = get_unwrapped(x)
    return False
