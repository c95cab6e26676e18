r"""Orders of drawing for graphs of couplings.

A dense graph has no separators: spins are drawn one after the other. On a sparse one the order is
an elimination order, reversed: *min-fill* gives narrow scopes, *nested dissection* also a low tree
of parents, hence few levels (:mod:`qattn.exact.elimination`, :mod:`qattn.exact.dissection`).
"""

import random
from functools import lru_cache
from itertools import chain

import numpy as np
from jaxtyping import Bool
from torch import Tensor

from qattn.exact.dissection import nested_dissection
from qattn.exact.elimination import in_order, min_fill, neighbour_sets
from qattn.simulators.autoregressive.plan import Plan
from qattn.simulators.autoregressive.settings import Order

DENSE = 0.5
"""Share of all pairs i > j, j in the scope of i, from which on a graph counts as dense."""

TRIES = 4
"""Runs of min-fill with different tie-breaks."""

MANY = 600
"""Spins from which on "auto" leaves out min-fill, whose time grows faster."""


def plan_of(adjacency: Bool[Tensor, "n n"], order: Order = "auto") -> Plan:
    r"""An order of drawing for a graph, the same for the same graph.

    Args:
        adjacency: Which pairs are coupled, symmetric.
        order: Which order; "natural" is that of the models, first spin first. "auto" takes the one
            with the least

            .. math:: (\text{number of levels}) \times \sum_i |S_i|,

            so that 1% fewer levels is worth 1% fewer spins in the scopes S_i: of the natural order,
            four runs of min-fill and nested dissection; and it draws spins one after the other
            where the graph is dense.

    A square lattice of 16 × 16 spins is drawn in less than three levels a row:

    >>> import torch
    >>> path = torch.ones(15).diag(1) + torch.ones(15).diag(-1)
    >>> lattice = torch.kron(path, torch.eye(16)) + torch.kron(torch.eye(16), path) > 0
    >>> len(plan_of(lattice).levels) < 3 * 16
    True
    """
    return _plan(len(adjacency), adjacency.cpu().numpy().tobytes(), order)


@lru_cache(maxsize=64)
def _plan(n: int, adjacency: bytes, order: Order) -> Plan:
    matrix = np.frombuffer(adjacency, dtype=bool).reshape(n, n) & ~np.eye(n, dtype=bool)
    dense = DENSE * n * (n - 1)
    if order == "auto" and matrix.sum() > dense:
        return Plan.dense(n)
    graph, orders = neighbour_sets(n, adjacency), []
    if order in ("auto", "natural"):
        orders.append(list(range(n))[::-1])
    if order in ("auto", "nested-dissection"):
        orders.append(nested_dissection(matrix))
    if order == "min-fill" or (order == "auto" and n < MANY):
        orders += [min_fill(graph, random.Random(seed)) for seed in range(TRIES)]
    plan = min((Plan.reversed(in_order(graph, o)) for o in orders), key=_cost)
    is_dense = order == "auto" and 2 * _keys(plan) > dense
    return Plan.dense(n) if is_dense else plan


def _cost(plan: Plan) -> int:
    return len(plan.levels) * _keys(plan)


def _keys(plan: Plan) -> int:
    """Spins in all scopes."""
    return len(list(chain(*plan.scopes)))
