"""Orders of drawing: what a conditional depends on, what is drawn at once, how low trees are."""

from dataclasses import replace

import pytest
import torch
from _support.brute_force import all_states
from hypothesis import given, settings
from hypothesis import strategies as st

from qattn.exact.elimination import in_order, neighbour_sets
from qattn.problems import edwards_anderson, qpu_native, random_regular
from qattn.simulators.autoregressive.orders import plan_of
from qattn.simulators.autoregressive.plan import Plan

ORDERS = ("natural", "min-fill", "nested-dissection", "auto")


def graph(n, probability, seed):
    """Random pairs, symmetric."""
    generator = torch.Generator().manual_seed(seed)
    pairs = (torch.rand(n, n, generator=generator) < probability).triu(1)
    return pairs | pairs.mT


def dependence(adjacency, plan, seed=0):
    """Whether p(s_i | all before) depends on the spin at position j, by enumeration."""
    n = len(adjacency)
    generator = torch.Generator().manual_seed(seed)
    J = torch.randn(n, n, generator=generator, dtype=torch.float64).triu(1)
    J = (J + J.mT)[plan.index][:, plan.index] * adjacency[plan.index][:, plan.index]
    h = torch.randn(n, generator=generator, dtype=torch.float64)
    S = all_states(n).double()
    log_p = (S @ h + ((S @ J) * S).sum(1) / 2).reshape([2] * n)  # an axis for each position
    found = torch.zeros(n, n, dtype=torch.bool)
    for i in range(n):
        marginal = log_p.flatten(i + 1).logsumexp(-1) if i < n - 1 else log_p
        logit = marginal.diff(dim=i).squeeze(i)
        for j in range(i):
            found[i, j] = logit.diff(dim=j).abs().max() > 1e-10
    return found


@given(
    n=st.integers(1, 9),
    probability=st.floats(0, 0.6),
    order=st.sampled_from(ORDERS),
    width=st.sampled_from([0, 1, 2, 4]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60)
def test_conditionals_depend_on_their_scopes_and_on_nothing_else(
    n, probability, order, width, seed
):
    adjacency = graph(n, probability, seed)
    plan = plan_of(adjacency, order).with_exact(width)
    found = dependence(adjacency, plan, seed)
    if not plan.is_dense:
        assert torch.equal(found, plan.mask)
    assert not (found & ~plan.mask).any()
    # Spins of a level do not depend on each other.
    for level in plan.levels:
        assert not found[level, level].any()


def test_a_wrong_scope_is_found():
    adjacency = graph(9, 0.3, seed=2)
    plan = plan_of(adjacency, "natural")
    found = dependence(adjacency, plan)
    assert torch.equal(found, plan.mask)
    i = max(range(9), key=lambda i: len(plan.scopes[i]))
    fewer = (*plan.scopes[:i], plan.scopes[i][1:], *plan.scopes[i + 1 :])
    assert not torch.equal(found, replace(plan, scopes=fewer).mask)
    i = next(i for i in range(1, 9) if len(plan.scopes[i]) < i)
    more = (*plan.scopes[:i], tuple(range(i)), *plan.scopes[i + 1 :])
    assert not torch.equal(found, replace(plan, scopes=more).mask)


def eliminated(adjacency, order):
    """Scopes by making cliques."""
    graph, scopes = adjacency.clone(), []
    for v in order:
        neighbours = graph[v].nonzero().flatten().tolist()
        for u in neighbours:
            graph[u, neighbours] = True
        graph[:, v] = graph[v] = False
        graph.fill_diagonal_(False)
        scopes.append(set(neighbours))
    return scopes


@given(n=st.integers(1, 12), probability=st.floats(0, 1), seed=st.integers(0, 1000))
@settings(max_examples=40)
def test_symbolic_elimination(n, probability, seed):
    adjacency = graph(n, probability, seed)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()
    found = in_order(neighbour_sets(n, adjacency.numpy().tobytes()), order)
    assert [set(scope) for scope in found.scopes] == eliminated(adjacency, order)
    # The spin that is eliminated next comes first.
    place = {v: i for i, v in enumerate(order)}
    assert all(list(scope) == sorted(scope, key=place.get) for scope in found.scopes)


@pytest.mark.parametrize("order", ORDERS)
def test_plans_hold_together(order):
    batch = edwards_anderson(1, 6)
    plan = plan_of(batch.J[0] != 0, order)
    for p in (plan, plan.with_exact(5), plan.with_exact(36)):
        assert sorted(p.order) == list(range(36))
        assert [p.order[i] for i in p.inverse] == list(range(36))
        assert [i for level in p.levels for i in range(level.start, level.stop)] == list(range(36))
        for level in p.levels:
            assert (level.start >= p.num_core) == (level.stop > p.num_core)
            for i in range(level.start, level.stop):
                assert all(j < level.start for j in p.scopes[i])
        # The tree of parents: what is left of a scope is within the parent's.
        assert all(set(s[:-1]) <= set(p.scopes[s[-1]]) for s in p.scopes if s)
    assert plan.with_exact(0) == plan
    assert plan.with_exact(36).num_exact == 36
    some = plan.with_exact(5)
    assert 0 < some.num_exact < 36
    assert max(map(len, some.scopes[some.num_core :])) <= 5
    # The core depends on itself alone, and it holds no spin that could be drawn exactly.
    children = {i: [] for i in range(36)}
    for i, scope in enumerate(some.scopes):
        if scope:
            children[scope[-1]].append(i)
    for i in range(some.num_core):
        assert len(some.scopes[i]) > 5 or any(c < some.num_core for c in children[i])


def test_parts_are_drawn_side_by_side():
    torus = edwards_anderson(1, 5).J[0] != 0
    plan, both = plan_of(torus), plan_of(torch.block_diag(torus, torus))
    assert len(both.levels) <= 1.2 * len(plan.levels)
    assert both.levels[0] == slice(0, 2)
    assert plan_of(torch.zeros(4, 4, dtype=torch.bool)).levels == (slice(0, 4),)


def test_dense_graphs_are_drawn_one_spin_after_the_other():
    complete = ~torch.eye(30, dtype=torch.bool)
    assert plan_of(complete) == Plan.dense(30) == plan_of(complete, "natural")
    assert plan_of(graph(40, 0.4, seed=1)).is_dense
    assert not plan_of(graph(40, 0.05, seed=1)).is_dense


# What a dissection by coordinates with straight cuts has: levels, and spins in a scope.
DISSECTED = {
    "16 x 16": (lambda: edwards_anderson(1, 16, periodic=False), 46, 9.3),
    "torus of 16 x 16": (lambda: edwards_anderson(1, 16), 68, 15.6),
    "torus of 32 x 32": (lambda: edwards_anderson(1, 32), 146, 22.6),
    "cube of 8": (lambda: edwards_anderson(1, 8, dimensions=3, periodic=False), 148, 32),
    "periodic cube of 8": (lambda: edwards_anderson(1, 8, dimensions=3), 262, 73),
}


@pytest.mark.parametrize("name", DISSECTED)
def test_nested_dissection_needs_no_coordinates(name):
    make, levels, keys = DISSECTED[name]
    adjacency = make().J[0] != 0
    n = len(adjacency)
    shuffled = torch.randperm(n, generator=torch.Generator().manual_seed(1))
    plan = plan_of(adjacency[shuffled][:, shuffled], "nested-dissection")
    assert len(plan.levels) <= levels
    assert sum(map(len, plan.scopes)) / n <= keys


def test_auto_is_the_best_of_all():
    for batch in (random_regular(1, 60), qpu_native(1, topology="chimera", size=2)):
        cost = {
            order: len(plan.levels) * sum(map(len, plan.scopes))
            for order in ORDERS
            for plan in [plan_of(batch.J[0] != 0, order)]
        }
        assert cost["auto"] == min(cost.values())


def test_the_same_graph_has_the_same_order():
    adjacency = random_regular(1, 60).J[0] != 0
    assert plan_of(adjacency) == plan_of(adjacency.clone())
