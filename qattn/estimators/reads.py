"""Reads of a slice of the queries as the estimators use them: floats, spin axis first."""

from collections.abc import Iterator
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int8
from torch import Tensor

CHUNK_ELEMENTS = 1 << 18
"""Spins times reads that are processed at a time: few calls, and arrays that fit the cache."""


@dataclass(frozen=True, eq=False)
class Reads:
    """Reads of a slice of the queries; those of one spin are contiguous.

    Attributes:
        h: Fields at β = 1.
        J: Couplings at β = 1.
        spins: Values in {-1, +1}, 0 at absent spins.
        weights: How many reads each row stands for; None means one each.
        active: Where a query has a spin.
    """

    h: Float[Tensor, "g n q"]
    J: Float[Tensor, "g n n"]
    spins: Float[Tensor, "g n q r"]
    weights: Float[Tensor, "g 1 q r"] | None
    active: Bool[Tensor, "g n q"]

    @property
    def count(self) -> Float[Tensor, "g 1 q"]:
        """Number of reads of each query."""
        if self.weights is None:
            return self.h.new_full((1, 1, 1), self.spins.shape[-1])
        return self.weights.sum(-1)

    def total(self, values: Float[Tensor, "g m q r"]) -> Float[Tensor, "g m q"]:
        """Weighted sum over the reads."""
        return (values if self.weights is None else values * self.weights).sum(-1)

    def average(self, values: Float[Tensor, "g m q r"]) -> Float[Tensor, "g m q"]:
        """Weighted mean over the reads."""
        return self.total(values) / self.count


def chunks(
    h: Float[Tensor, "g q n"],
    J: Float[Tensor, "g n n"],
    spins: Int8[Tensor, "g q r n"],
    weights: Float[Tensor, "g q r"] | None,
    active: Bool[Tensor, "g q n"],
) -> Iterator[tuple[slice, Reads]]:
    """The queries in slices of bounded size."""
    G, Q, R, n = spins.shape
    step = max(1, CHUNK_ELEMENTS // max(1, G * R * n))
    for start in range(0, Q, step):
        q = slice(start, start + step)
        values = spins[:, q].permute(0, 3, 1, 2).to(h.dtype).contiguous()
        w = None if weights is None else weights[:, None, q].to(h.dtype)
        yield q, Reads(h[:, q].mT, J, values, w, active[:, q].mT)
