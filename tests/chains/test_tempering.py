"""Parallel tempering: every temperature's distribution, the ladder, and round trips."""

import math

import pytest
import torch

from qattn import IsingBatch, exact
from qattn.chains import Chains, Tempering
from qattn.chains.settle import opposite_starts

SETS = 400


def ferromagnet(queries=3, n=10, coupling=0.6):
    generator = torch.Generator().manual_seed(4)
    h = 0.1 * torch.randn(1, queries, n, generator=generator)
    return IsingBatch(h, coupling * (1 - torch.eye(n))[None])


def tempered(batch, num_sweeps, *, seed=0, betas=None, sets=SETS, observe=None):
    generator = torch.Generator().manual_seed(seed)
    tempering = Tempering(batch, opposite_starts(batch, sets), generator, betas)
    tempering.run(num_sweeps, observe)
    return tempering


def adapted(batch, **kwargs):
    tempering = tempered(batch, 0, **kwargs)
    for num_sweeps in (10, 20, 40):
        tempering.adapt(num_sweeps)
    return tempering


def test_it_leaves_traps_that_sweeps_do_not():
    batch = ferromagnet()
    tempering = adapted(batch)
    tempering.run(100)
    assert largest_deviation(tempering.spins, batch) < 5.5  # 5 sigma, of 30 means
    chains = Chains(batch, opposite_starts(batch, SETS))
    chains.sweep(1000, torch.Generator().manual_seed(0))
    assert largest_deviation(chains.spins, batch) > 6


def largest_deviation(spins, batch):
    """The worst ⟨s⟩, in standard errors of independent reads."""
    m = exact.mean_spins(batch)
    return float(((spins.float().mean(2) - m) / ((1 - m**2) / spins.shape[2]).sqrt()).abs().max())


@pytest.mark.parametrize("lengths", [None, torch.tensor([10, 1, 6])])
def test_every_temperature_has_its_energies(lengths):
    """Means over sets and sweeps, within 5 standard errors of sets, which are independent."""
    batch = ferromagnet(coupling=0.2)
    batch = IsingBatch(batch.h, batch.J, lengths)
    betas = torch.tensor([0.0, 0.3, 0.5, 1.0]).expand(1, 3, -1)
    kept = []

    def observe(g, q, energies, spins, fields, replica_at):
        assert torch.equal(replica_at.sort(2).values[0, 0, :, 0], torch.arange(4))
        kept.append(energies.clone())

    generator = torch.Generator().manual_seed(2)
    tempering = Tempering(batch, opposite_starts(batch, SETS), generator, betas)
    tempering.run(60)
    tempering.run(100, observe)
    of_sets = torch.stack(kept).double().mean(0)
    mean, error = of_sets.mean(-1), of_sets.std(-1) / math.sqrt(SETS)
    for k, beta in enumerate(betas[0, 0].tolist()):
        at_beta = IsingBatch(batch.h.double(), batch.J.double(), lengths, beta)
        s = exact.mean_spins(at_beta)
        pairs = exact.pair_correlations(at_beta)
        expected = -(batch.h * s).sum(-1) - (batch.J.unsqueeze(1) * pairs).sum((-1, -2)) / 2
        off = (mean[:, :, k] - expected).abs() / error[:, :, k].clamp_min(1e-9)
        assert float(off.max()) < 5.5, (beta, off)


def test_round_trips_are_those_of_the_replicas():
    batch = ferromagnet(queries=2, coupling=0.1)
    ends = []

    def observe(g, q, energies, spins, fields, replica_at):
        ends.append(replica_at[0, :, [0, -1]].clone())

    betas = torch.tensor([0.0, 0.4, 1.0]).expand(1, 2, -1)
    tempering = tempered(batch, 80, betas=betas, sets=10, observe=observe)
    tempering.run(1, observe)  # shows where the replicas are after the last swap
    counted = tempering.round_trips[0].clone()
    for q in range(2):
        for r in range(10):
            trips, visited = 0, dict.fromkeys(range(3), "")
            for hot, cold in [tuple(e[q, :, r].tolist()) for e in ends[1:]]:
                trips += visited[hot] == "hot, cold"
                visited[hot] = "hot"
                if visited[cold] == "hot":
                    visited[cold] = "hot, cold"
            late = counted[q, r] - trips  # the swap after the last sweep was not shown
            assert late in (0, 1)
    assert float(counted.mean()) > 5


def test_the_ladder_rejects_evenly():
    batch = ferromagnet(queries=4, n=16, coupling=0.5)
    tempering = adapted(batch)
    tempering.run(100)
    assert bool((tempering.betas.diff(dim=-1) > 0).all())
    assert tempering.betas[..., 0].unique().tolist() == [0.0]
    assert tempering.betas[..., -1].unique().tolist() == [1.0]
    rejections = tempering.rejections[0]
    assert float(rejections.max()) < 0.65
    even = tempered(
        batch, 100, betas=torch.linspace(0, 1, tempering.num_temperatures).expand(1, 4, -1)
    )
    spread = (rejections.max(-1).values - rejections.min(-1).values).mean()
    assert float(spread) < 0.5 * float(
        (even.rejections.max(-1).values - even.rejections.min(-1).values).mean()
    )


def test_the_generator_fixes_it_and_chunks_do_not_matter(monkeypatch):
    batch = ferromagnet()
    first, again = (tempered(batch, 10, seed=1).spins for _ in range(2))
    assert torch.equal(first, again)
    monkeypatch.setattr("qattn.chains.sweeps.CHUNK_ELEMENTS", 1000)
    tempering = adapted(batch)
    tempering.run(100)
    assert largest_deviation(tempering.spins, batch) < 5.5


def test_rejections_are_shares():
    tempering = tempered(ferromagnet(), 7)
    tempering.run(4)
    free = tempered(IsingBatch(torch.zeros(1, 1, 4), torch.zeros(1, 4, 4)), 9)
    assert float(free.rejections.abs().max()) == 0.0
    assert float(tempering.rejections.min()) > 0
    assert float(tempering.rejections.max()) < 1
