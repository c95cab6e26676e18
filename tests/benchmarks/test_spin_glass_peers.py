"""Peers of the benchmark of spin glasses: they are what they say, with and without a cache."""

import math

import pytest
import torch
from _support.annealing import problems
from _support.brute_force import all_states, expectations
from spin_glass_peers import (
    MADE,
    OfNet,
    Optimiser,
    PixelCNN,
    TwoBody,
    chains,
    independent_reads,
    train,
)

from qattn import IsingBatch
from qattn.problems import named
from qattn.simulators.autoregressive import AutoregressiveNet, Models, importance
from qattn.simulators.autoregressive.orders import plan_of

N = 9
READS = 2000

VANS = {
    "made": lambda **options: MADE(N, 1, 1, **options),
    "made of depth 3": lambda **options: MADE(N, 3, 4, bias=True, **options),
    "pixelcnn": lambda **options: PixelCNN(3, 3, 4, 1, **options),
    "pixelcnn, a wide window": lambda **options: PixelCNN(3, 2, 5, 6, bias=False, **options),
}


def states():
    return all_states(N).T.float()


@pytest.fixture(params=VANS)
def van(request):
    """A network whose logits are no longer small."""
    torch.manual_seed(0)
    net = VANS[request.param](even=False)
    with torch.no_grad():
        for layer in net.layers:
            layer.weight *= 3
    return net


@pytest.mark.parametrize("even", [False, True])
def test_q_of_a_van_is_a_distribution(van, even):
    van.even = even
    with torch.no_grad():
        assert abs(van.log_q(states()).logsumexp(0)) < 1e-5
    # A mask that lets a spin be seen by itself.
    layer = van.layers[0]
    layer.mask = torch.ones_like(layer.mask)
    with torch.no_grad():
        layer.weight += 0.1
        assert abs(van.log_q(states()).logsumexp(0)) > 1e-3


def test_a_cache_changes_no_draw(van):
    drawn = []
    for van.cached in (False, True):
        drawn.append(van.draw(500, torch.Generator().manual_seed(1)))
    assert torch.equal(drawn[0][0], drawn[1][0])
    assert torch.equal(drawn[0][1], drawn[1][1])


def test_a_van_draws_its_q(van):
    """χ² of the states' frequencies, within 5 standard deviations of its mean."""
    van.cached, van.even = True, True
    spins, log_q = van.draw(10_000, torch.Generator().manual_seed(2))
    assert torch.allclose(log_q, van.log_q(spins).detach(), rtol=0, atol=1e-5)
    number = ((spins + 1) / 2 * 2.0 ** torch.arange(N - 1, -1, -1)[:, None]).sum(0).long()
    counts = torch.bincount(number, minlength=2**N).double()

    def excess(expected):
        """Over the degrees of freedom; rare states are taken together."""
        rare = expected < 5
        one, other = (
            torch.cat([x[~rare], x[rare].sum(0, keepdim=True)]) for x in (counts, expected)
        )
        freedom = int((other > 0).sum()) - 1
        return float(((one - other) ** 2 / other.clamp_min(1e-9)).sum() - freedom) / math.sqrt(
            2 * freedom
        )

    with torch.no_grad():
        expected = van.log_q(states()).exp() * 10_000
    assert abs(excess(expected)) < 5
    assert excess(expected.roll(1)) > 5


def test_all_signs_changed(van):
    with torch.no_grad():
        van.even = True
        assert torch.allclose(van.log_q(states()), van.log_q(-states()), rtol=0, atol=1e-6)


@pytest.mark.parametrize("graph", ["dense", "torus", "torus, natural"])
def test_two_body_is_a_part_of_a_logit(graph):
    batch = problems(12, queries=1, groups=1, couplings=0.4, dtype=torch.float32, beta=1.3)
    if graph != "dense":
        lattice = named("ea:size=3,problems=1,field_sd=0.5", seed=1)
        batch = IsingBatch(lattice.h.float(), lattice.J.float(), beta=0.7)
    n = batch.num_spins
    plan = plan_of((batch.matrix != 0).any(0), "natural" if "natural" in graph else "auto")
    part = TwoBody(plan, torch.Generator().manual_seed(0))
    with torch.no_grad():
        part.weight += 0.2 * torch.randn(n, n, generator=torch.Generator().manual_seed(1))
    net = AutoregressiveNet(plan, [part])
    sampler = OfNet(net, Models.arranged(batch, plan))
    with torch.no_grad():
        total = sampler.log_q(all_states(n).T.float()).logsumexp(0)
        spins, log_q = sampler.draw(READS, torch.Generator().manual_seed(0))
        assert torch.allclose(log_q, sampler.log_q(spins), rtol=0, atol=1e-4)
    assert abs(total) < 1e-5
    found = importance(log_q, batch.beta * batch.energies(spins.T[None, None])[0, 0])
    wanted = float(expectations(batch, batch.h, batch.matrix).log_Z)
    assert abs(float(found.log_Z) - wanted) < 5 * float(found.log_Z_error)


def test_training_lowers_the_divergence():
    """A spin glass of 9 spins: nearly q = p after a few seconds, of which no test depends."""
    batch = named("sk:spins=9,problems=1", seed=0)
    J = batch.J[0].float()
    energies = -(states() * (J @ states())).sum(0) / 2
    log_p = (-energies).double().log_softmax(0)

    def divergence(net):
        with torch.no_grad():
            log_q = net.log_q(states())
        return float((log_q.exp() * (log_q - log_p)).sum())

    torch.manual_seed(0)
    net = MADE(N, 1, 1, cached=True)
    before = divergence(net)
    took = train(
        net,
        list(net.parameters()),
        J,
        1.0,
        seconds=1.0,
        num_reads=128,
        optimiser=Optimiser(1e-2, 10, 0.1),
        generator=torch.Generator().manual_seed(0),
    )
    assert took.steps > 1
    assert took.seconds >= 1
    assert divergence(net) < before / 4


def test_rates():
    falling = Optimiser(1e-2, 10, 0.1)
    assert [falling.at(spent) for spent in (0, 0.5, 1)] == pytest.approx([1e-2, 1e-2, 1e-3])
    assert Optimiser().at(1) == 1e-3
    assert (str(falling), str(Optimiser())) == ("0.01:10:0.1", "0.001:1")


def test_what_an_independent_read_costs(monkeypatch):
    monkeypatch.setattr(chains, "FIRST_SWEEPS", 512)
    free = IsingBatch(torch.zeros(1, 1, 6), torch.zeros(1, 6, 6))
    found = independent_reads(free, most=1024)
    assert found.resolved
    assert 1 <= found.sweeps < 1.5  # a sweep of free spins forgets everything
    glass = independent_reads(named("sk:spins=20,problems=1,beta=2", seed=0), most=1024)
    assert glass.sweeps > 2
    assert glass.seconds > 0
