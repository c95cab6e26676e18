"""Reads of a slice of the queries as the estimators use them: floats, spin axis first."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Bool, Float, Int8
from torch import Tensor

from qattn.couplings import Couplings

CHUNK_ELEMENTS = 1 << 18
"""Spins times reads that a CPU processes at a time: few calls, and arrays that its cache holds."""

CHUNK_ELEMENTS_CUDA = 1 << 22
"""The same for a GPU, which wants large arrays."""


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
    J: Float[Tensor, "g n n"] | Couplings
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

    def fields(self) -> Float[Tensor, "g n q r"]:
        """The local fields b_i = h_i + Σ_j J_ij s_j of every read."""
        b, s = torch.empty_like(self.spins), self.spins.flatten(2)
        b.copy_((self.J @ s if isinstance(self.J, Tensor) else self.J.matvec(s)).view_as(b))
        return b.add_(self.h.unsqueeze(-1))


def chunks(
    h: Float[Tensor, "g q n"],
    J: Float[Tensor, "g n n"] | Couplings,
    spins: Int8[Tensor, "g q r n"],
    weights: Float[Tensor, "g q r"] | None,
    active: Bool[Tensor, "g q n"],
) -> Iterator[tuple[tuple[slice, slice], Reads]]:
    """The groups and queries in slices of bounded size."""
    G, Q, R, n = spins.shape
    queries = (CHUNK_ELEMENTS_CUDA if h.is_cuda else CHUNK_ELEMENTS) // max(1, R * n)
    q_step = max(1, min(Q, queries))
    g_step = max(1, queries // q_step)
    for g_start, q_start in product(range(0, G, g_step), range(0, Q, q_step)):
        part = g, q = slice(g_start, g_start + g_step), slice(q_start, q_start + q_step)
        # The spin axis comes first in memory: what is done to many spins runs over long rows.
        values = spins[part].permute(3, 0, 1, 2).contiguous().to(h.dtype).transpose(0, 1)
        w = None if weights is None else weights[g, None, q].to(h.dtype)
        yield part, Reads(h[part].mT, J[g], values, w, active[part].mT)
