"""Fields and couplings of a band as weights of windows: what the messages of a scan are made of."""

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn import functional as F

SPINS_A_STEP = 4
"""Spins by which the window advances: few and large products, also where the band is narrow."""

CHUNK_ELEMENTS = 1 << 22
"""Numbers of the messages that are kept at a time; others are computed again from checkpoints."""


class Windows:
    r"""Some groups and queries of a band, cut into blocks of m spins; a window has w ≥ m spins.

    With a state (old, kept) of the window, of which the oldest m spins leave, and m new spins,

    .. math::
        K_t(\mathrm{kept}, \mathrm{new}, \mathrm{old})
            = e^{\sum_{a\,\mathrm{new}} \sum_d J_{a,a-d} s_a s_{a-d}}, \qquad
        u_t(\mathrm{new}) = e^{\sum_a h_a s_a},

    each divided by its maximum. Spins before the first are a window of one state without
    couplings. A query may end within a block: the block's absent spins are fixed to -1, and the
    present ones get the field Σ J over the absent ones, which undoes that.

    Args:
        h: Fields.
        values: Couplings J_{j,j-d} at [:, j, d - 1], of at least one distance.
        lengths: On the CPU; the longest of all groups are in ascending order.
    """

    def __init__(
        self,
        h: Float[Tensor, "g n q"],
        values: Float[Tensor, "g n w"],
        lengths: Int[Tensor, "#g q"],
    ) -> None:
        self.num_groups, _, self.num_queries = h.shape
        self.step = m = SPINS_A_STEP
        self.width = max(values.shape[2], m)
        longest = lengths.amax(0)
        self.num_blocks = -(-int(longest.max()) // m)
        # Queries that have no spin in block t are the first ended[t].
        starts = m * torch.arange(self.num_blocks + 1, device="cpu")
        self.ended = torch.searchsorted(longest.contiguous(), starts, right=True).tolist()
        self.uneven = len(lengths) > 1

        self.lengths = lengths.to(h.device)
        j = torch.arange(m * self.num_blocks, device=h.device)
        self.present = j[:, None] < self.lengths[:, None]
        self.no_pair = j[:, None] < torch.arange(1, self.width + 1, device=h.device)
        values = F.pad(values, (0, self.width - values.shape[2]))
        self.values = self.padded(values).masked_fill(self.no_pair, 0.0)
        h = self.padded(h).masked_fill(~self.present, 0.0)
        self.undo, self.cause = self._fixed_spins(len(j))
        h.view(-1).index_add_(0, self.undo, self.values.view(-1)[self.cause])
        self.log_scale = torch.where(self.present, h.abs(), -h).sum(1)
        self.h = h.masked_fill(~self.present, -torch.inf)

        states = _states(self.width + m).to(h)  # of the old, kept and new spins, in 0 and 1
        self.bits = _states(m).to(h)
        s = 2 * states - 1
        new = range(self.width, self.width + m)
        pairs = torch.stack([s[:, a] * s[:, a - d] for a in new for d in range(1, self.width + 1)])
        # Numbered (kept, new, old).
        self.pairs = pairs.view(-1, 1 << m, 1 << self.width).mT.flatten(1)

    def padded(self, x: Float[Tensor, "g n k"]) -> Float[Tensor, "g m k"]:
        """With as many rows as the blocks have spins."""
        n = self.num_blocks * self.step
        return F.pad(x[:, :n], (0, 0, 0, max(0, n - x.shape[1])))

    def in_blocks(self, x: Shaped[Tensor, "g m k"]) -> Shaped[Tensor, "g b a k"]:
        """Rows of spins as blocks of m."""
        blocks: Tensor = x.unflatten(1, (self.num_blocks, self.step))
        return blocks

    def _fixed_spins(self, n: int) -> tuple[Tensor, Tensor]:
        """Of each pair with an absent spin of a query's last block: where h and where J stand."""
        G, Q, w, m = self.num_groups, self.num_queries, self.width, self.step
        L = self.lengths.expand(G, Q)[:, :, None, None]
        absent = L + torch.arange(m - 1, device=L.device)[:, None]
        d = torch.arange(1, w + 1, device=L.device)
        end = (L + m - 1) // m * m
        g, q, i, k = ((absent < end) & (absent >= d)).nonzero(as_tuple=True)
        a, d = absent[g, q, i, 0], k + 1
        return (g * n + a - d) * Q + q, (g * n + a) * w + d - 1

    def weights(self, chunk: slice) -> Float[Tensor, "g b new q"]:
        """u of each block: a product over its spins."""
        h = self.in_blocks(self.h)[:, chunk]
        spin = torch.stack([torch.exp(-2 * h.relu()), torch.exp(-2 * (-h).relu())], 3)
        u = spin[:, :, 0]
        for i in range(1, self.step):
            u = (u.unsqueeze(3) * spin[:, :, i].unsqueeze(2)).flatten(2, 3)
        return u

    def tables(self, chunk: slice) -> tuple[Tensor, Tensor]:
        """K of each block, (b, g, kept, new, old), and the logarithm of its maximum."""
        m, w = self.step, self.width
        log_K = self.in_blocks(self.values)[:, chunk].flatten(2).transpose(0, 1) @ self.pairs
        top = log_K.amax(2)
        K = (log_K - top.unsqueeze(2)).exp_()
        return K.unflatten(2, (1 << (w - m), 1 << m, 1 << m)), top

    def chunks(self, components: int) -> list[slice]:
        """Blocks whose messages are kept at a time."""
        size = components * self.num_groups * self.num_queries << self.width
        step, blocks = max(1, CHUNK_ELEMENTS // size), self.num_blocks
        return [slice(t, min(t + step, blocks)) for t in range(0, blocks, step)]


def _states(num_spins: int) -> Int[Tensor, "states n"]:
    """The states of spins in 0 and 1; the first spin is the highest bit of a state's number."""
    spins = torch.arange(num_spins, device="cpu")
    return (torch.arange(1 << num_spins, device="cpu")[:, None] >> spins.flip(0)) & 1
