r"""In which order spins are drawn, on which earlier ones each depends, and which are drawn at once.

The order of drawing is an elimination order of the graph of couplings, reversed
(:mod:`qattn.exact.elimination`). Eliminating spin i leaves it with a *scope*: exactly the spins
drawn before it on which its conditional distribution depends, however the later ones are summed.
The spin of the scope that is eliminated next is its *parent*; spins of one *level*, the distance
from a root of the tree of parents, are independent of each other given all levels before
(separators), so that they are drawn at once.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise

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
        num_exact: How many of the last positions are drawn from tables of their exact conditionals
            (:meth:`with_exact`); no level holds both kinds.
    """

    order: tuple[int, ...]
    scopes: tuple[tuple[int, ...], ...]
    levels: tuple[slice, ...]
    num_exact: int = 0

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
        return cls._by_depth(depth, scope_of, 0)

    @classmethod
    def dense(cls, num_spins: int) -> "Plan":
        """One spin after the other, each dependent on all before."""
        n = num_spins
        return cls(
            tuple(range(n)),
            tuple(tuple(range(i)) for i in range(n)),
            tuple(slice(i, i + 1) for i in range(n)),
        )

    @classmethod
    def _by_depth(
        cls, depth: Mapping[int, int], scope_of: Mapping[int, tuple[int, ...]], num_exact: int
    ) -> "Plan":
        """Spins of one depth make a level; the depths are consecutive numbers."""
        order = sorted(depth, key=depth.__getitem__)
        place = {v: i for i, v in enumerate(order)}
        scopes = tuple(tuple(sorted(place[u] for u in scope_of[v])) for v in order)
        counts = Counter(depth.values())
        ends = list(accumulate(counts[d] for d in sorted(counts)))
        levels = tuple(slice(start, end) for start, end in pairwise([0, *ends]))
        return cls(tuple(order), scopes, levels, num_exact)

    def with_exact(self, width: int) -> "Plan":
        """Draw spins exactly whose scope, and those of all below them in the tree, are narrow.

        They are drawn after all others, the *core*, whose scopes hold none of them. That costs
        hardly a level.

        Args:
            width: Largest number of spins in such a scope; 0 means that no spin is drawn so.

        The ends of a path whose middle is drawn first:

        >>> path = Plan((1, 0, 2), ((), (0,), (0,)), (slice(0, 1), slice(1, 3)))
        >>> path.with_exact(0).num_exact, path.with_exact(1).num_exact
        (0, 3)
        """
        n = self.num_spins
        parents = [max(scope, default=n) for scope in self.scopes]
        exact = [0 < width >= len(scope) for scope in self.scopes] + [False]
        for i in reversed(range(n)):  # children before their parent
            exact[parents[i]] &= exact[i]
        depth = {n: -1}  # below no spin; the core has the first levels, and the exact trees follow
        for kind in (False, True):
            first = max(depth.values()) + 1
            for i in range(n):
                if exact[i] == kind:
                    depth[i] = depth[parents[i]] + 1 if exact[parents[i]] == kind else first
        del depth[n]
        plan = self._by_depth(depth, dict(enumerate(self.scopes)), sum(exact))
        return replace(plan, order=tuple(self.order[i] for i in plan.order))

    @property
    def num_spins(self) -> int:
        """Number of spins."""
        return len(self.order)

    @property
    def is_dense(self) -> bool:
        """Whether each conditional depends on all earlier positions."""
        return all(len(scope) == i for i, scope in enumerate(self.scopes))

    @property
    def num_core(self) -> int:
        """Number of spins before those that are drawn exactly."""
        return self.num_spins - self.num_exact

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
