"""The gradient of a fit is that of the divergence, and is quiet where the net is exact."""

import math
from dataclasses import replace

import pytest
import torch
from _support.brute_force import all_states

from qattn.fitting.loss import advantages, returns, reverse_kl
from qattn.problems import banded, spin_glass
from qattn.simulators.autoregressive import NetSettings, build_net
from qattn.simulators.autoregressive.models import as_columns

N = 8
READS, TIMES, BATCHES = 4, 50, 50
DIRECTIONS = 6


@pytest.fixture(scope="module")
def net():
    """TAP with parameters away from their start, of a glass of eight spins in fields."""
    batch = spin_glass(1, N, field_sd=0.3, seed=1)
    settings = NetSettings(logit="tap", iterations=1, parameters="couplings", exact_width=0)
    made = build_net(settings, batch)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in made.parameters():
            p += 0.3 * torch.randn(p.shape, generator=generator)
    # Many queries alike: the mean of their gradients.
    return made, made.arranged(replace(batch, h=batch.h.expand(1, TIMES, N), validate=False))


def flat_gradient(net, loss):
    found = torch.autograd.grad(loss, list(net.parameters()), materialize_grads=True)
    return torch.cat([g.flatten() for g in found])


def exact_gradient(net, models):
    """Of Σ_s q(s) (ln q(s) + βE(s)) over all states."""
    models = models._replace(h=models.h[:, :, :1])
    spins = as_columns(all_states(N).to(torch.int8)[None, None], net.plan, torch.float32)
    log_q = net.log_q(models, spins)
    return flat_gradient(net, (log_q.exp() * (log_q + models.energies(spins))).sum())


def deviations(net, models, *, positions=None, scale=1.0, factor=1.0):
    """How far mean gradients lie from the exact one along some directions, in standard errors."""
    generator = torch.Generator().manual_seed(2)
    exact = exact_gradient(net, models)
    directions = torch.randn(DIRECTIONS, len(exact), generator=generator)
    directions[0] = exact / exact.norm()
    found = []
    for _ in range(BATCHES):
        spins, log_q = net.draw(models, READS, generator)
        R = returns(log_q, models.energies(spins), TIMES)
        chosen, share = None, 1.0
        if positions is not None:
            chosen = torch.randperm(N, generator=generator)[:positions].sort().values
            share = scale * positions / N
        loss = factor * reverse_kl(net, models, spins, R, chosen, share)
        found.append(directions @ flat_gradient(net, loss))
    projections = torch.stack(found).double()
    error = projections.std(0) / math.sqrt(BATCHES)
    return ((projections.mean(0) - directions.double() @ exact.double()) / error).abs().max()


def test_the_gradient_is_unbiased(net):
    # Six directions, one of them the gradient itself: two-sided, 5 sigma each.
    assert deviations(*net) < 5


def test_a_mean_over_all_reads_would_shrink_it(net):
    # The mean with the read itself in it makes 1 - 1/READS of the gradient.
    assert deviations(*net, factor=1 - 1 / READS) > 5


def test_so_is_that_of_some_positions(net):
    assert deviations(*net, positions=3) < 5
    assert deviations(*net, positions=3, scale=3) > 5


def test_the_whole_return_has_no_noise_where_the_net_is_exact():
    # Message passing is exact on a chain; what comes after a spin depends on the spins before it.
    chain = banded(1, N, width=1, field_sd=0.5, coupling_sd=1.0, seed=0).dense()
    settings = NetSettings(logit="bp", iterations=N, order="natural", exact_width=0)
    exact = build_net(settings, chain)
    models = exact.arranged(chain)
    spins, log_q = exact.draw(models, 100, torch.Generator().manual_seed(0))
    R = returns(log_q, models.energies(spins), 1)
    assert advantages(R).abs().max() < 1e-4
    later = torch.arange(N // 2, N)
    with torch.no_grad():
        of_later = exact.log_q(models, spins, later)
    energies = models.energies(spins) - models.energies(spins * (torch.arange(N) < N // 2)[:, None])
    assert (of_later + energies).std() > 0.1
