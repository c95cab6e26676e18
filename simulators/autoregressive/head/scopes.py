"""Scopes as tensors: the keys of each position, padded, and how far away they are in the graph."""

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor, nn

from qattn.simulators.autoregressive.plan import Plan

BUCKETS = 8
"""Graph distances told apart; what is farther counts as one more."""


class Scopes(nn.Module):
    """The keys of a plan's positions, as numbers of *slots*.

    Slot 0 is a key that is always there, so that the first position has one; slot i + 1 is
    position i.

    Attributes:
        index: Slots of the keys of each position: 0, its scope; 0 again as padding.
        bucket: Distance of each key: 0 for slot 0, 1 to :data:`BUCKETS`, 1 more beyond.
        valid: What is not padding.
        sizes: Keys of each position, the size of its scope and 1.
    """

    index: Int[Tensor, "n keys"]
    bucket: Int[Tensor, "n keys"]
    valid: Bool[Tensor, "n keys"]

    def __init__(self, plan: Plan, adjacency: Bool[Tensor, "n n"]) -> None:
        super().__init__()
        n, width = plan.num_spins, plan.width
        self.sizes = [1 + len(scope) for scope in plan.scopes]
        rows = [[0, *(j + 1 for j in scope)] + [0] * (width - len(scope)) for scope in plan.scopes]
        index = torch.tensor(rows, dtype=torch.int64).reshape(n, 1 + width)
        near = distances(adjacency.cpu()[plan.index][:, plan.index])
        bucket = nn.functional.pad(near, (1, 0)).gather(1, index).long()
        valid = torch.arange(1 + width) < torch.tensor(self.sizes).unsqueeze(1)
        for name, value in (("index", index), ("bucket", bucket), ("valid", valid)):
            self.register_buffer(name, value, persistent=False)


def distances(adjacency: Bool[Tensor, "n n"]) -> UInt8[Tensor, "n n"]:
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
        if bool(reached.all()):
            break
        # A ball grows by the balls of its centre's neighbours.
        grown = torch.stack([reached[[v, *near]].any(0) for v, near in enumerate(neighbours)])
        found[grown & ~reached] = distance
        reached = grown
    return found
