"""Every part of a logit: q is a distribution, its draws have it, and it depends on what it may."""

import math
from dataclasses import replace

import pytest
import torch
from _support.annealing import problems
from _support.brute_force import all_states, expectations

from qattn import IsingBatch
from qattn.simulators.autoregressive import AutoregressiveNet, Plan, importance
from qattn.simulators.autoregressive.build import build_net
from qattn.simulators.autoregressive.message_passing import MessagePassing
from qattn.simulators.autoregressive.models import as_columns
from qattn.simulators.autoregressive.pair import Pair
from qattn.simulators.autoregressive.settings import NetSettings
from qattn.simulators.autoregressive.tables import TruncatedTables

N = 12
READS = 2000

# A part is held to all tests by a line here: what to build, and for which graphs.
PARTS = {
    "pair": (NetSettings(logit="pair"), "dense"),
    "pair, torus": (NetSettings(logit="pair"), "torus"),
    "pair, torus, natural": (NetSettings(logit="pair", order="natural"), "torus"),
    "pair, torus, min-fill": (NetSettings(logit="pair", order="min-fill"), "torus"),
    "pair, some spins exact": (NetSettings(logit="pair", exact_width=4), "torus"),
    "all spins exact": (NetSettings(exact_width=11), "torus"),
    "all spins exact, dense": (NetSettings(exact_width=11), "dense"),
    "tables": (NetSettings(logit="tables", table_width=3), "torus"),
    "tables, scalars": (NetSettings(logit="tables", parameters="scalars", table_width=2), "torus"),
    "tables, some spins exact": (
        NetSettings(logit="tables", parameters="couplings", exact_width=4, table_width=4),
        "torus",
    ),
    "tables, dense": (NetSettings(logit="tables", table_width=5), "dense"),
    "tap": (NetSettings(logit="tap"), "dense"),
    "tap, one step": (NetSettings(logit="tap", iterations=1), "dense"),
    "tap, scalars": (NetSettings(logit="tap", parameters="scalars"), "dense"),
    "tap, couplings": (NetSettings(logit="tap", parameters="couplings"), "dense"),
    "tap, torus": (NetSettings(logit="tap", parameters="couplings"), "torus"),
    "bp": (NetSettings(logit="bp"), "torus"),
    "bp, natural": (NetSettings(logit="bp", order="natural", iterations=3), "torus"),
    "bp, min-fill": (NetSettings(logit="bp", order="min-fill", iterations=7), "torus"),
    "bp, scalars": (NetSettings(logit="bp", parameters="scalars"), "torus"),
    "bp, couplings": (NetSettings(logit="bp", parameters="couplings"), "torus"),
    "head": (NetSettings(logit="tap", head=2, head_width=16, head_heads=2), "dense"),
    "head, torus": (NetSettings(logit="pair", head=3, head_width=8, head_heads=1), "torus"),
    "head, some spins exact": (
        NetSettings(logit="pair", exact_width=4, head=1, head_width=8, head_heads=2),
        "torus",
    ),
    "bp, dense": (NetSettings(logit="bp", parameters="couplings", iterations=2), "dense"),
}


def models(graph, *, fields=0.7, lengths=(N, 7, 0, N)):
    """Two groups of four queries, some shorter."""
    length = None if lengths is None else torch.tensor(lengths)
    batch = problems(
        N, queries=4, fields=fields, couplings=0.25, dtype=torch.float32, lengths=length, beta=1.3
    )
    if graph == "dense":
        return batch
    return IsingBatch(batch.h, 2 * batch.matrix * torus(3, 4), length, batch.beta)


def torus(*sides):
    """Which sites of a periodic lattice are neighbours."""
    sites = torch.arange(math.prod(sides)).view(*sides)
    near = torch.zeros(sites.numel(), sites.numel())
    for dim in range(len(sides)):
        near[sites.flatten(), sites.roll(1, dim).flatten()] = 1
    return near + near.mT


def net_for(settings, batch):
    """A net whose parameters are no longer at their start, without exact spins unless asked for."""
    if settings.exact_width == NetSettings().exact_width:
        settings = replace(settings, exact_width=0)
    net = build_net(settings, batch)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return net


@pytest.fixture(scope="module", params=PARTS)
def case(request):
    settings, graph = PARTS[request.param]
    batch = models(graph)
    return net_for(settings, batch), batch


def log_q_of(net, batch, states, positions=None):
    """Ln q of the same states for every query: (groups, queries, states)."""
    spins = states.to(torch.int8).expand(*batch.h.shape[:2], *states.shape) * batch.active.to(
        torch.int8
    ).unsqueeze(2)
    columns = as_columns(spins, net.plan, net.arranged(batch).h.dtype)
    with torch.no_grad():
        found = net.log_q(net.arranged(batch), columns, positions)
    return found.unflatten(1, (batch.num_queries, -1))


def check_normalised(net, batch):
    """The sum of q over all states of a query is 1: absent spins, set to 0, repeat its states."""
    total = log_q_of(net, batch, all_states(N)).logsumexp(2)
    repeats = (N - batch.active.sum(-1)).double() * math.log(2)
    assert torch.allclose(total, repeats.expand_as(total), rtol=0, atol=1e-5)


def check_draws(net, batch):
    """Ln q of a draw is ln q of its states, and the mean of e^(-βE)/q is Z."""
    arranged = net.arranged(batch)
    spins, log_q = net.draw(arranged, READS, torch.Generator().manual_seed(0))
    with torch.no_grad():
        again = net.log_q(arranged, spins)
    assert torch.allclose(log_q, again, rtol=0, atol=1e-5)
    shape = (batch.num_queries, READS)
    found = importance(log_q.unflatten(1, shape), arranged.energies(spins).unflatten(1, shape))
    log_Z = expectations(batch, batch.h, batch.matrix).log_Z
    # Queries without spins have no error at all.
    assert ((found.log_Z - log_Z).abs() < 5 * found.log_Z_error + 1e-5).all()
    assert (found.log_Z_error < 0.1).all()


def test_q_is_a_distribution(case):
    check_normalised(*case)


def test_draws_have_the_log_q_that_is_returned(case):
    check_draws(*case)


def test_some_positions(case):
    net, batch = case
    states = all_states(N)[::97]
    chosen, rest = torch.tensor([0, 3, 4, 9]), torch.tensor([1, 2, 5, 6, 7, 8, 10, 11])
    parts = log_q_of(net, batch, states, chosen) + log_q_of(net, batch, states, rest)
    assert torch.allclose(parts, log_q_of(net, batch, states), rtol=0, atol=1e-5)


def test_one_position(case):
    """A conditional that is asked for alone is that of all."""
    net, batch = case
    states = all_states(N)[::97]
    each = [log_q_of(net, batch, states, torch.tensor([i])) for i in range(N)]
    assert torch.allclose(sum(each), log_q_of(net, batch, states), rtol=0, atol=1e-5)


def test_it_depends_on_the_scope_alone(case):
    """A spin outside the scope of a position changes nothing there."""
    net, batch = case
    state = all_states(N)[[1234]]
    for i in range(N):
        outside = (~net.plan.mask[i]).nonzero().flatten().tolist()
        outside.remove(i)
        flipped = state.repeat(len(outside) + 1, 1)
        for row, j in enumerate(outside):
            flipped[row + 1, net.plan.order[j]] *= -1
        at_i = log_q_of(net, batch, flipped, torch.tensor([i]))
        assert torch.allclose(at_i, at_i[..., :1].expand_as(at_i), rtol=0, atol=1e-6)


@pytest.mark.parametrize("part", PARTS)
def test_all_signs_changed(part):
    """At h = 0, q(-s) = q(s)."""
    settings, graph = PARTS[part]
    batch = models(graph, fields=0.0, lengths=None)
    net = net_for(settings, batch)
    states = all_states(N)[::97]
    assert torch.equal(log_q_of(net, batch, states), log_q_of(net, batch, -states))


def test_absent_spins_have_no_influence(case):
    """Fields and couplings of spins that a query lacks change nothing."""
    net, batch = case
    h, J = batch.h.clone(), batch.matrix.clone()
    h[:, 1, 7:] += 5
    J[:, 7:] *= -3
    J[:, :7, 7:] *= -3
    other = IsingBatch(h, J, batch.lengths, batch.beta)
    states = all_states(N)[::97]
    before, after = (log_q_of(net, x, states)[:, 1:3] for x in (batch, other))
    assert torch.allclose(before, after, rtol=0, atol=1e-6)


def test_a_shorter_query_is_the_smaller_model(case):
    """Where spins are drawn one after the other, in the order of the models."""
    net, batch = case
    of_these = any(isinstance(part, MessagePassing | TruncatedTables) for part in net.parts)
    if of_these or net.plan.order != tuple(range(N)) or any(p.ndim > 1 for p in net.parameters()):
        pytest.skip("another order, or parts or parameters that belong to these spins")
    n = 7
    parts = list(net.parts)
    small = AutoregressiveNet(Plan.dense(n).with_exact(n if net.plan.num_exact else 0), parts)
    lone = IsingBatch(batch.h[:, 1:2, :n], batch.matrix[:, :n, :n], beta=batch.beta)
    states = all_states(N)[::97]
    columns = as_columns(
        states[:, :n].to(torch.int8).expand(2, 1, -1, n), small.plan, torch.float32
    )
    with torch.no_grad():
        alone = small.log_q(small.arranged(lone), columns)
    assert torch.allclose(alone, log_q_of(net, batch, states)[:, 1], rtol=0, atol=1e-5)


class Peeks(Pair):
    """A little of the spin itself is in its logit."""

    def of_states(self, models, spins, positions):
        return super().of_states(models, spins, positions) + 0.01 * spins[:, positions]


def test_planted_errors_are_found():
    batch = models("dense")
    dense = Plan.dense(N)
    check_normalised(AutoregressiveNet(dense, [Pair()]), batch)
    with pytest.raises(AssertionError):
        check_normalised(AutoregressiveNet(dense, [Peeks()]), batch)
    with pytest.raises(AssertionError):
        check_draws(AutoregressiveNet(dense, [Peeks()]), batch)
    # Levels of two spins that are coupled: neither sees the other when they are drawn.
    pairs = tuple(slice(i, i + 2) for i in range(0, N, 2))
    with pytest.raises(AssertionError):
        check_draws(AutoregressiveNet(Plan(dense.order, dense.scopes, pairs), [Pair()]), batch)
    # One spin may be drawn although an edge is missing from its scope.
    scopes = (*dense.scopes[:-1], dense.scopes[-1][:-1])
    wrong = AutoregressiveNet(Plan(dense.order, scopes, dense.levels), [Pair()])
    with pytest.raises(AssertionError):
        test_it_depends_on_the_scope_alone((wrong, batch))


def test_wrong_weights_are_found():
    """The bound of the test of Z is narrow enough to see β off by a twentieth."""
    batch = models("dense", lengths=None)
    net = AutoregressiveNet(Plan.dense(N), [Pair()])
    arranged = net.arranged(batch)
    spins, log_q = net.draw(arranged, READS, torch.Generator().manual_seed(0))
    shape = (batch.num_queries, READS)
    energies = 1.05 * arranged.energies(spins)
    found = importance(log_q.unflatten(1, shape), energies.unflatten(1, shape))
    log_Z = expectations(batch, batch.h, batch.matrix).log_Z
    assert not ((found.log_Z - log_Z).abs() < 5 * found.log_Z_error).all()
