"""Sums of rows, and the rows that sums need: the sparse steps of message passing."""

from collections.abc import Sequence
from itertools import accumulate, chain
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import embedding_bag


class Bags(nn.Module):
    """Bags of rows: bag k holds rows ``rows[starts[k]:starts[k + 1]]`` of a matrix.

    >>> bags = Bags.of([[0, 2], [], [1]], num_rows=3)
    >>> bags(torch.tensor([[1.0], [2.0], [4.0]])).flatten()
    tensor([5., 0., 2.])
    """

    rows: Tensor
    starts: Tensor
    back_rows: Tensor
    back_starts: Tensor

    def __init__(
        self, rows: Int[Tensor, " entries"], starts: Int[Tensor, " bags_and_one"], num_rows: int
    ) -> None:
        super().__init__()
        # Of each row the bags that hold it: what the gradient of a row sums.
        bag_of = torch.arange(len(starts) - 1, device=rows.device).repeat_interleave(starts.diff())
        back_starts = starts.new_zeros(num_rows + 1)
        back_starts[1:] = rows.bincount(minlength=num_rows).cumsum(0)
        for name, x in (
            ("rows", rows),
            ("starts", starts),
            ("back_rows", bag_of[rows.argsort(stable=True)]),
            ("back_starts", back_starts),
        ):
            self.register_buffer(name, x, persistent=False)

    @classmethod
    def of(cls, bags: Sequence[Sequence[int]], num_rows: int) -> "Bags":
        """From lists."""
        starts = torch.tensor([0, *accumulate(map(len, bags))])
        return cls(torch.tensor([*chain.from_iterable(bags)], dtype=torch.int64), starts, num_rows)

    def forward(self, x: Float[Tensor, "rows columns"]) -> Float[Tensor, "bags columns"]:
        """The sum of each bag, 0 where it is empty."""
        back = self.back_rows, self.back_starts
        found: Tensor = _Sums.apply(x, self.rows, self.starts, *back)  # type: ignore[no-untyped-call]
        return found

    def part(self, start: int, stop: int) -> "Part":
        """Consecutive bags."""
        starts = self.starts[start : stop + 1]
        first, last = int(starts[0]), int(starts[-1])
        return Part(slice(start, stop), self.rows[first:last], starts - first)

    def chosen(self, bags: Int[Tensor, " bags"]) -> tuple["Bags", Int[Tensor, " rows"]]:
        """Some bags, over the rows alone that they hold, and which rows those are."""
        sizes = self.starts.diff()[bags]
        starts = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        shift = (self.starts[bags] - starts[:-1]).repeat_interleave(sizes)
        rows = self.rows[torch.arange(len(shift), device=shift.device) + shift]
        held, rows = rows.unique(return_inverse=True)
        return Bags(rows, starts, len(held)), held


class Part(NamedTuple):
    """Consecutive bags, without gradients.

    Attributes:
        own: Which bags.
        rows: Their rows.
        starts: Where each begins.
    """

    own: slice
    rows: Tensor
    starts: Tensor

    def sums(self, x: Tensor) -> Tensor:
        """The sum of each bag."""
        return _sums(x, self.rows, self.starts)


def _sums(x: Tensor, rows: Tensor, starts: Tensor) -> Tensor:
    return embedding_bag(rows, x, starts, mode="sum", include_last_offset=True)


class _Sums(torch.autograd.Function):
    """Sums of rows; their gradient is sums of rows too, which the one of PyTorch is slow at."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, rows: Tensor, starts: Tensor, back_rows: Tensor, back_starts: Tensor
    ) -> Tensor:
        ctx.save_for_backward(back_rows, back_starts)
        return _sums(x, rows, starts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        back = cast(tuple[Tensor, Tensor], ctx.saved_tensors)
        return _sums(gradients[0].contiguous(), *back), None, None, None, None
