r"""In which order spins are drawn, on which earlier ones each depends, and which are drawn at once.

The order of drawing is an elimination order of the graph of couplings, reversed
(:mod:`qattn.exact.elimination`). Eliminating spin i leaves it with a *scope*: exactly the spins
drawn before it on which its conditional distribution depends, however the later ones are summed.
The spin of the scope that is eliminated next is its *parent*; spins of one *level*, the distance
from a root of the tree of parents, are independent of each other given all levels before
(separators), so that they are drawn at once.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from qattn.exact.elimination import Elimination


@dataclass(frozen=True)
class Plan:
    """An order of drawing.

    Positions count spins in the order in which they are drawn: position i is spin ``order[i]`` of
    the models.

    Attributes:
        order: The spins, first drawn first, level by level.
        scopes: Of each position the earlier positions on which its conditional depends, ascending.
        levels: Positions of each level, which are drawn at once.
    """

    order: tuple[int, ...]
    scopes: tuple[tuple[int, ...], ...]
    levels: tuple[slice, ...]

    @classmethod
    def reversed(cls, elimination: Elimination) -> "Plan":
        """Draw in the reverse of an elimination order, level by level.

        A path of three spins, eliminated from its ends to its middle: the ends are drawn at once.

        >>> plan = Plan.reversed(Elimination((0, 2, 1), ((1,), (1,), ())))
        >>> plan.order, plan.levels
        ((1, 2, 0), (slice(0, 1, None), slice(1, 3, None)))
        """
        scope_of = dict(zip(elimination.order, elimination.scopes, strict=True))
        depth: dict[int, int] = {}
        for v in reversed(elimination.order):  # a parent before its children
            depth[v] = depth[scope_of[v][0]] + 1 if scope_of[v] else 0
        order = sorted(depth, key=depth.__getitem__)
        place = {v: i for i, v in enumerate(order)}
        scopes = tuple(tuple(sorted(place[u] for u in scope_of[v])) for v in order)
        sizes = [0] * (max(depth.values(), default=-1) + 1)
        for d in depth.values():
            sizes[d] += 1
        ends = [sum(sizes[: d + 1]) for d in range(len(sizes))]
        levels = tuple(slice(end - size, end) for size, end in zip(sizes, ends, strict=True))
        return cls(tuple(order), scopes, levels)

    @classmethod
    def dense(cls, num_spins: int) -> "Plan":
        """One spin after the other, each dependent on all before."""
        n = num_spins
        return cls(
            tuple(range(n)),
            tuple(tuple(range(i)) for i in range(n)),
            tuple(slice(i, i + 1) for i in range(n)),
        )

    @property
    def num_spins(self) -> int:
        """Number of spins."""
        return len(self.order)

    @property
    def is_dense(self) -> bool:
        """Whether each conditional depends on all earlier positions."""
        return all(len(scope) == i for i, scope in enumerate(self.scopes))

    @property
    def width(self) -> int:
        """Size of the largest scope."""
        return max(map(len, self.scopes), default=0)

    @cached_property
    def mask(self) -> Bool[Tensor, "n n"]:
        """Whether the conditional of position i depends on position j, below the diagonal."""
        mask = torch.zeros(self.num_spins, self.num_spins, dtype=torch.bool)
        for i, scope in enumerate(self.scopes):
            mask[i, list(scope)] = True
        return mask

    @cached_property
    def index(self) -> Int[Tensor, " n"]:
        """The order as a tensor: what arranges spins of the models."""
        return torch.tensor(self.order, dtype=torch.int64)

    @cached_property
    def inverse(self) -> Int[Tensor, " n"]:
        """Position of each spin: what puts them back."""
        return self.index.argsort()
