r"""Orders of drawing for graphs of couplings.

A dense graph has no separators: spins are drawn one after the other. On a sparse one the order is
an elimination order, reversed; *min-fill* gives narrow scopes, *nested dissection* (George, SIAM J.
Numer. Anal. 10, 345 (1973)) also a low tree of parents, hence few levels.
"""

import random

from jaxtyping import Bool
from torch import Tensor

from qattn.exact.elimination import eliminated, neighbour_sets
from qattn.simulators.autoregressive.plan import Plan
from qattn.simulators.autoregressive.settings import Order

DENSE = 0.5
"""Share of all pairs i > j, j in the scope of i, from which on a graph counts as dense."""


def plan_of(adjacency: Bool[Tensor, "n n"], order: Order = "auto") -> Plan:
    """An order of drawing for a graph, the same for the same graph.

    Args:
        adjacency: Which pairs are coupled, symmetric.
        order: Which order; "auto" takes the best that is found.
    """
    n = len(adjacency)
    graph = neighbour_sets(n, adjacency.cpu().numpy().tobytes())
    ties = None if order == "natural" else random.Random(0)
    plan = Plan.reversed(eliminated(graph, ties))
    if order == "auto" and sum(map(len, plan.scopes)) > DENSE * n * (n - 1) / 2:
        return Plan.dense(n)
    return plan
