"""Tables over the spins of scopes, one behind the other, and the entries that states choose."""

from collections.abc import Sequence
from itertools import accumulate

import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor, nn


class Lookup(nn.Module):
    """Tables of 2^|S| numbers each; the first spin of a scope is the most significant bit.

    Args:
        scopes: The positions that each table is a function of.
        num_spins: Number of all positions.
    """

    scope: Tensor
    start: Tensor

    def __init__(self, scopes: Sequence[tuple[int, ...]], num_spins: int) -> None:
        super().__init__()
        width = max(map(len, scopes), default=0)
        # Before the spins of a narrower scope stands a place of no spin, whose bit is 0.
        rows = [[num_spins] * (width - len(scope)) + list(scope) for scope in scopes]
        starts = list(accumulate((1 << len(scope) for scope in scopes), initial=0))
        self.num_entries = starts.pop()
        self.widths = [len(scope) for scope in scopes]
        scope = torch.tensor(rows, dtype=torch.int64).view(len(rows), width)
        self.register_buffer("scope", scope, persistent=False)
        self.register_buffer("start", torch.tensor(starts, dtype=torch.int64), persistent=False)

    def entries(
        self, bits: Int32[Tensor, "g n_and_one columns"], rows: Int[Tensor, " rows"]
    ) -> Int[Tensor, "g rows columns"]:
        """Numbers of the entries of some tables."""
        widest = max((self.widths[row] for row in rows.tolist()), default=0)
        entry = bits.new_zeros(bits.shape[0], len(rows), bits.shape[2])
        for place in self.scope[rows, self.scope.shape[1] - widest :].unbind(1):
            entry = torch.add(bits[:, place], entry, alpha=2)
        return entry.long() + self.start[rows].unsqueeze(1)

    def forward(
        self,
        tables: Float[Tensor, "g q entries"],
        bits: Int32[Tensor, "g n_and_one columns"],
        rows: Int[Tensor, " rows"],
    ) -> Float[Tensor, "g rows columns"]:
        """The numbers in some tables that each column chooses."""
        entry = self.entries(bits, rows)
        q = tables.shape[1]
        of_query = entry.unflatten(2, (q, -1)).transpose(1, 2)
        found = tables.gather(2, of_query.flatten(2)).view(of_query.shape)
        return found.transpose(1, 2).flatten(2)


class Bits:
    """Spins drawn so far as bits; a last row is that of no spin."""

    def __init__(self, spins: Float[Tensor, "g n columns"]) -> None:
        g, n, columns = spins.shape
        self.values = torch.zeros(g, n + 1, columns, dtype=torch.int32, device=spins.device)
        self.known = 0

    def learn(self, spins: Float[Tensor, "g n columns"], stop: int) -> Int32[Tensor, "g m columns"]:
        """The bits, with those of all spins before a position."""
        self.values[:, self.known : stop] = spins[:, self.known : stop] > 0
        self.known = stop
        return self.values
