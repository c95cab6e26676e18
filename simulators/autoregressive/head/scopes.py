"""Scopes as tensors: the keys of each query, padded, and how far away they are in the graph."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from qattn.simulators.autoregressive.plan import Plan

BUCKETS = 8
"""Graph distances told apart; what is farther counts as one more."""


class Scopes(nn.Module):
    """The keys of a plan's positions, as *slots* of a cache with n + 2 of them.

    Slot 0 is a key that is always there, so that the first position has one; slot i + 1 is
    position i; the last slot pads rows, and is never seen.

    Attributes:
        index: Slots of the keys of each position: 0, its scope, padding.
        bucket: Distance of each key: 0 for slot 0, 1 to :data:`BUCKETS`, 1 more beyond or padding.
        valid: What is not padding.
        sizes: Sizes of the scopes.
    """

    index: Int[Tensor, "n keys"]
    bucket: Int[Tensor, "n keys"]
    valid: Bool[Tensor, "n keys"]
    sizes: Int[Tensor, " n"]
    widths: dict[int, int]

    def __init__(self, plan: Plan, adjacency: Bool[Tensor, "n n"]) -> None:
        super().__init__()
        n, width = plan.num_spins, plan.width
        rows = [[0, *(j + 1 for j in scope)] for scope in plan.scopes]
        index = torch.tensor([row + [n + 1] * (1 + width - len(row)) for row in rows])
        index = index.reshape(n, 1 + width)
        order = plan.index
        near = distances(adjacency.cpu()[order][:, order])
        near = nn.functional.pad(near, (1, 1), value=BUCKETS + 1)
        near[:, 0] = 0
        self.register_buffer("index", index, persistent=False)
        self.register_buffer("bucket", near.gather(1, index).long(), persistent=False)
        self.register_buffer("valid", index <= n, persistent=False)
        self.register_buffer("sizes", (index <= n).sum(1) - 1, persistent=False)
        # Widths of the rows of levels, known without asking a device.
        self.widths = {v.start: max(map(len, rows[v])) for v in plan.levels}
        self.dense = sum(map(len, plan.scopes)) == n * (n - 1) // 2

    def keys_of(self, level: slice) -> Int[Tensor, "m keys"] | slice:
        """Slots of the keys of a level; a slice where all before are the keys of one position."""
        if self.dense and level.stop == level.start + 1:
            return slice(0, level.stop)
        return self.index[level, : self.widths[level.start]]


def distances(adjacency: Bool[Tensor, "n n"]) -> Int[Tensor, "n n"]:
    """Distances in a graph, up to :data:`BUCKETS`; 1 more for what is farther or in another part.

    >>> path = torch.eye(3).roll(1, 0).tril().bool()
    >>> distances(path | path.mT)
    tensor([[0, 1, 2],
            [1, 0, 1],
            [2, 1, 0]], dtype=torch.uint8)
    """
    n = len(adjacency)
    neighbours = [row.nonzero().flatten().tolist() for row in adjacency]
    found = torch.full((n, n), BUCKETS + 1, dtype=torch.uint8)
    reached = torch.eye(n, dtype=torch.bool)
    found[reached] = 0
    for distance in range(1, BUCKETS + 1):
        if n == 0 or bool(reached.all()):
            break
        # A ball grows by the balls of its centre's neighbours.
        grown = torch.stack([reached[[v, *near]].any(0) for v, near in enumerate(neighbours)])
        found[grown & ~reached] = distance
        reached = grown
    return found
