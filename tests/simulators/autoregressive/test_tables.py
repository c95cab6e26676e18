"""Spins that are drawn exactly: their tables, what is left to the core, and memory."""

import math

import pytest
import torch
from _support.brute_force import all_states

from qattn import IsingBatch, exact
from qattn.exact import memory, tree
from qattn.problems import edwards_anderson, random_regular
from qattn.simulators.autoregressive import AutoregressiveNet, importance
from qattn.simulators.autoregressive.build import build_net
from qattn.simulators.autoregressive.models import as_columns, as_reads
from qattn.simulators.autoregressive.orders import plan_of
from qattn.simulators.autoregressive.settings import NetSettings
from qattn.simulators.autoregressive.tables import Tables, logit, narrowed, num_entries
from qattn.simulators.autoregressive.tables import exact as module


def drawn(net, batch, reads, seed=0):
    """Ln q and βE of reads: (groups, queries, reads) each, and the columns."""
    models = net.arranged(batch)
    spins, log_q = net.draw(models, reads, torch.Generator().manual_seed(seed))
    shape = (batch.num_queries, reads)
    return log_q.unflatten(1, shape), models.energies(spins).unflatten(1, shape), spins


def test_where_all_spins_are_exact_q_is_the_boltzmann_distribution():
    batch = random_regular(2, 10, field_sd=0.5)
    lengths = torch.tensor([10, 6, 0])
    h = batch.h.expand(2, 3, 10) * torch.tensor([1.0, 0.3, 2.0]).double().view(1, 3, 1)
    batch = IsingBatch(h, batch.J, lengths, beta=0.8)
    net = build_net(NetSettings(), batch)
    assert net.plan.num_core == 0
    states = all_states(10).expand(2, 3, -1, 10) * batch.active.unsqueeze(2)
    log_q = net.log_q(net.arranged(batch), as_columns(states, net.plan, torch.float32))
    expected = exact.log_prob(batch, states.where(batch.active.unsqueeze(2), 1))
    torch.testing.assert_close(log_q.view(2, 3, -1), expected, rtol=0, atol=1e-5)


def test_a_torus_of_64_spins_is_exact():
    batch = edwards_anderson(2, 8)
    net = build_net(NetSettings(exact_width=16), batch)
    log_q, energies, _ = drawn(net, batch, 500)
    found = importance(log_q, energies)
    assert net.plan.num_core == 0
    torch.testing.assert_close(found.ess, torch.ones_like(found.ess), rtol=0, atol=1e-8)
    torch.testing.assert_close(found.log_Z, tree.moments(batch).log_Z, rtol=0, atol=1e-4)
    # With a core that is drawn without correlations it is not.
    net = build_net(NetSettings(logit="pair", exact_width=8), batch)
    assert bool((importance(*drawn(net, batch, 500)[:2]).ess < 0.5).all())


def test_reads_come_as_often_as_they_should():
    batch = random_regular(1, 8, field_sd=0.3)
    net = build_net(NetSettings(), batch)
    models, reads = net.arranged(batch), 20_000
    spins, _ = net.draw(models, reads, torch.Generator().manual_seed(1))
    number = (as_reads(spins, net.plan, 1)[0, 0] > 0).long() @ (1 << torch.arange(8)).flip(0)
    p = exact.log_prob(batch, all_states(8)[None, None])[0, 0].exp()
    z = (number.bincount(minlength=256) - reads * p) / (reads * p * (1 - p)).sqrt()
    assert float(z.abs().max()) < 6  # 256 states
    other = exact.log_prob(IsingBatch(batch.h, 0.8 * batch.J), all_states(8)[None, None])[0, 0]
    z = (number.bincount(minlength=256) - reads * other.exp()) / (reads * other.exp()).sqrt()
    assert float(z.abs().max()) > 6


@pytest.mark.parametrize("graph", ["torus", "random regular"])
def test_weights_are_those_of_the_core(graph):
    batch = edwards_anderson(1, 6) if graph == "torus" else random_regular(1, 40)
    net = build_net(NetSettings(logit="pair", exact_width=5), batch)
    core = net.plan.num_core
    assert 0 < core < batch.num_spins
    models = net.arranged(batch)
    spins, _ = net.draw(models, 50, torch.Generator().manual_seed(2))
    again, _ = net.draw(models, 50, torch.Generator().manual_seed(3))
    again[:, :core] = spins[:, :core]
    # The rest is another one, which ln q + βE does not feel.
    log_w = [net.log_q(models, s) + models.energies(s) for s in (spins, again)]
    assert not torch.equal(spins, again)
    torch.testing.assert_close(*log_w, rtol=0, atol=1e-4)
    again[:, 0] *= -1
    changed = net.log_q(models, again) + models.energies(again)
    assert bool(((changed - log_w[0]).abs() > 1e-3).any())


def test_many_queries_are_eliminated_in_chunks(monkeypatch):
    batch = random_regular(3, 14)
    h = torch.randn(3, 4, 14, generator=torch.Generator().manual_seed(0)).double()
    batch = IsingBatch(h, batch.J)
    plan = plan_of((batch.J != 0).any(0)).with_exact(14)
    models = AutoregressiveNet(plan, []).arranged(batch)
    whole = Tables(plan).of_models(models)
    monkeypatch.setattr(module, "CHUNK_ENTRIES", 1)
    assert torch.equal(Tables(plan).of_models(models), whole)
    assert whole.shape == (3, 4, num_entries(plan))


def test_widths_are_lowered_to_what_fits():
    torus = plan_of(edwards_anderson(1, 8).J[0] != 0)
    assert narrowed(torus, 16, 1) == torus.with_exact(16)
    assert num_entries(torus.with_exact(16)) > 2**17
    many = module.MAX_ENTRIES // 2**12
    assert narrowed(torus, 16, many) == torus.with_exact(8)
    assert narrowed(torus, 16, module.MAX_ENTRIES) == torus.with_exact(0)
    assert narrowed(torus, 0, 1) == torus


def test_what_does_not_fit_is_refused(monkeypatch):
    batch = edwards_anderson(1, 8)
    net = build_net(NetSettings(exact_width=16), batch)
    monkeypatch.setattr(memory, "MEMORY_LIMIT", 2**20)
    with pytest.raises(MemoryError, match=r"need about 0\.0\d+ GiB.*`exact_width`"):
        net.exact.of_models(net.arranged(batch))


def test_strong_couplings_do_not_overflow():
    J = torch.diag(torch.full((9,), 500.0, dtype=torch.float64), 1)
    batch = IsingBatch(torch.full((1, 1, 10), 0.1, dtype=torch.float64), (J + J.mT)[None])
    net = build_net(NetSettings(), batch)
    _, _, spins = drawn(net, batch, 2000)
    up = float((spins[0].sum(0) > 0).double().mean())
    assert bool((spins[0].sum(0).abs() == 10).all())
    p = 1 / (1 + math.exp(-2))
    assert abs(up - p) < 5 * math.sqrt(p * (1 - p) / 2000)


def truncated_logits(batch, width, order="min-fill"):
    """A net whose spins all have truncated tables, and its models."""
    net = build_net(NetSettings("tables", 0, order, 0, table_width=width), batch)
    return net, net.arranged(batch)


@pytest.mark.parametrize("field", [0.0, 0.5])
def test_tables_that_are_wide_enough_are_exact(field):
    batch = random_regular(2, 12, field_sd=field)
    states = all_states(12)[::17].expand(2, 1, -1, 12)
    expected = exact.log_prob(batch, states)
    errors = []
    for width in (2, 12):
        net, models = truncated_logits(batch, width)
        log_q = net.log_q(models, as_columns(states, net.plan, torch.float32))
        errors.append(float((log_q.view(2, 1, -1) - expected).abs().max()))
    assert errors[1] < 1e-4
    assert errors[0] > 0.01


def test_wider_tables_are_better_and_never_biased():
    batch = random_regular(3, 40)
    log_Z = tree.moments(batch).log_Z
    ess = []
    for width in (2, 4, 8):
        net, _ = truncated_logits(batch, width)
        found = importance(*drawn(net, batch, 4000)[:2])
        ess.append(float(found.ess.mean()))
        assert bool(((found.log_Z - log_Z).abs() < 5 * found.log_Z_error).all())
    assert ess[0] < ess[1] < ess[2]
    assert ess[2] > 0.9
    # Without any correlations among later spins.
    pair = build_net(NetSettings(logit="pair", exact_width=0), batch)
    assert float(importance(*drawn(pair, batch, 4000)[:2]).ess.mean()) < ess[0]


def test_a_torus_of_100_spins_needs_no_training():
    batch = edwards_anderson(2, 10)
    net = build_net(NetSettings(), batch)
    found = importance(*drawn(net, batch, 2000)[:2])
    assert bool((found.ess > 0.5).all())
    log_Z = torch.tensor([[150.9986], [149.7183]], dtype=torch.float64)
    assert bool(((found.log_Z - log_Z).abs() < 5 * found.log_Z_error + 1e-4).all())


def test_truncated_tables_do_not_depend_on_company():
    """A problem has the same tables alone and beside others, and at another β the same spins."""
    batch = edwards_anderson(3, 6, field_sd=0.2)
    net, models = truncated_logits(batch, 4)
    tables, linear = net.parts[0].of_models(models)
    one = IsingBatch(batch.h[1:2], batch.J[1:2])
    alone = net.parts[0].of_models(net.arranged(one))
    torch.testing.assert_close(alone, (tables[1:2], linear[1:2]), rtol=1e-5, atol=1e-6)
    other, _ = truncated_logits(IsingBatch(one.h, 2 * one.J, beta=0.3), 4)
    assert other.parts[0].kept == net.parts[0].kept


def test_strong_couplings_do_not_break_truncated_tables():
    batch = edwards_anderson(2, 6, coupling=30.0)
    net, _ = truncated_logits(batch, 4)
    log_q, energies, _ = drawn(net, batch, 200)
    assert bool(log_q.isfinite().all())
    assert bool(energies.isfinite().all())


def test_narrower_tables_where_there_are_many_queries(monkeypatch):
    batch = random_regular(1, 40)
    assert build_net(NetSettings("tables", exact_width=0), batch).parts[0].width == 12
    monkeypatch.setattr(logit, "MAX_ENTRIES", 40 * 2**5)
    assert build_net(NetSettings("tables", exact_width=0), batch).parts[0].width == 5


def test_corrections_of_tables_learn():
    """Gradient steps of the variational bound, of the factors and terms of each position."""
    batch = random_regular(1, 30)
    settings = NetSettings("tables", exact_width=0, parameters="couplings", table_width=1)
    net = build_net(settings, batch)
    models = net.arranged(batch)
    before = importance(*drawn(net, batch, 2000)[:2]).ess
    optimiser = torch.optim.Adam(net.parameters(), 0.02)
    for step in range(40):
        spins, log_q = net.draw(models, 200, torch.Generator().manual_seed(step))
        loss = log_q + models.energies(spins)
        optimiser.zero_grad()
        ((loss - loss.mean()) * net.log_q(models, spins)).mean().backward()
        optimiser.step()
    after = importance(*drawn(net, batch, 2000)[:2]).ess
    assert 1 - float(after) < (1 - float(before)) / 5
