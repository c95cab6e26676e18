"""Gibbs sweeps: the distribution of one sweep, what sweeps leave alone, and the order of spins."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qattn import IsingBatch, SpinSamples, exact, kernels
from qattn.chains import Chains, sweeps
from qattn.chains.compiled import CompiledSweeper
from qattn.couplings import Banded, Block, Cardinality, LowRank
from qattn.testing import deviation_from_exact


def batch_of(n, *, graph=None, groups=2, queries=3, lengths=None, beta=1.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(n)
    h = 0.5 * torch.randn(groups, queries, n, generator=generator, dtype=dtype)
    J = torch.randn(groups, n, n, generator=generator, dtype=dtype).triu(1)
    if graph is not None:
        J = J * graph
    return IsingBatch(h, J + J.mT, lengths, beta)


@pytest.fixture(params=["compiled", "PyTorch"])
def both(request):
    """Each way in which chains are swept."""
    if request.param == "compiled":
        if kernels.level() is None:
            pytest.skip("no compiled library")
        yield
    else:
        with kernels.disabled():
            yield


def swept(batch, spins, num_sweeps, seed=0):
    chains = Chains(batch, spins)
    chains.sweep(num_sweeps, torch.Generator().manual_seed(seed))
    return chains.spins


def symmetric(x):
    return x.triu(1) + x.triu(1).mT


def structured(couplings):
    generator = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(2, *shape, generator=generator)

    lengths = torch.tensor([10, 4, 0])
    return IsingBatch(normal(3, 10) / 2, couplings(normal), lengths, beta=0.8)


RING = torch.roll(torch.eye(10), 1, 1).triu(1)
RING[0, 9] = 1


@pytest.mark.usefixtures("both")
def test_one_sweep_draws_each_spin_given_the_latest_others():
    h, J, reads = torch.tensor([[[0.3, -0.4]]]), 0.8, 40_000
    batch = IsingBatch(h, torch.tensor([[[0.0, J], [J, 0.0]]]))
    start = torch.ones(1, 1, reads, 2, dtype=torch.int8)
    s = swept(batch, start, 1)[0, 0]
    # The first spin sees the second one up, the second one sees what the first one became.
    first_up = 1 / (1 + math.exp(-2 * (0.3 + J)))
    for a, p_a in ((1, first_up), (-1, 1 - first_up)):
        second_up = 1 / (1 + math.exp(-2 * (-0.4 + J * a)))
        for b, p_b in ((1, second_up), (-1, 1 - second_up)):
            p = p_a * p_b
            share = float(((s[:, 0] == a) & (s[:, 1] == b)).double().mean())
            assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / reads)


def invariance(batch, num_sweeps=3, reads=4000):
    """Standard errors by which exact reads are off after some sweeps."""
    start = exact.sample(batch, reads, seed=1).spins
    return deviation_from_exact(SpinSamples(swept(batch, start, num_sweeps)), batch)


@pytest.mark.parametrize(
    "batch",
    [
        batch_of(10),
        batch_of(10, graph=RING),
        batch_of(10, graph=torch.zeros(10, 10)),
        batch_of(17, queries=1),
        batch_of(10, lengths=torch.tensor([10, 0, 4]), beta=torch.tensor([0.5, 1.5])),
        batch_of(10, graph=RING, lengths=torch.tensor([[7, 1, 3], [10, 9, 8]]), beta=0.7),
        batch_of(6, dtype=torch.float64),
        structured(lambda normal: Banded(normal(10, 2))),
        structured(lambda normal: LowRank(normal(10) / 2)),
        structured(lambda normal: LowRank(normal(10) / 2, sign=-1)),
        structured(lambda normal: Block(symmetric(normal(4, 3, 3)), 10)),
        structured(lambda normal: Cardinality.competitive(normal()[..., None].abs()[:, 0], 10)),
    ],
    ids=[
        *("dense", "ring", "uncoupled", "two blocks", "lengths", "ring, lengths", "float64"),
        *("band", "positive product", "negative product", "blocks", "competition"),
    ],
)
@pytest.mark.usefixtures("both")
def test_sweeps_leave_the_distribution_as_it_is(batch):
    deviation = invariance(batch)
    assert deviation.sigmas <= deviation.bound


def test_spins_drawn_at_once_must_not_be_coupled(monkeypatch):
    """Negative control: all spins drawn at once is another dynamics, with other moments."""
    monkeypatch.setattr(sweeps, "_plan", lambda J: (tuple(range(10)), ((0, 10),), False))
    with kernels.disabled():
        deviation = invariance(batch_of(10))
    assert deviation.sigmas > 3 * deviation.bound


def test_couplings_that_are_a_little_off_are_seen(monkeypatch):
    """Negative control of the compiled sweeps: J that is 40% too large."""
    call = kernels.call
    monkeypatch.setattr(kernels, "call", lambda name, J, *rest: call(name, 1.4 * J, *rest))
    for batch in (batch_of(10), structured(lambda normal: LowRank(normal(10) / 2))):
        deviation = invariance(batch)
        assert deviation.sigmas > 1.5 * deviation.bound


@pytest.mark.usefixtures("both")
def test_absent_spins_stay_zero_and_have_no_influence():
    batch = batch_of(8, lengths=torch.tensor([8, 3, 0]))
    start = torch.ones(2, 3, 40, 8, dtype=torch.int8)
    spins = swept(batch, start, 4)
    assert bool((spins.ne(0) == batch.active.unsqueeze(2)).all())


@pytest.mark.usefixtures("both")
def test_strong_fields_are_followed():
    h = torch.tensor([[[1e4, -1e4, 30.0]]])
    batch = IsingBatch(h, torch.zeros(1, 3, 3))
    spins = swept(batch, torch.ones(1, 1, 5000, 3, dtype=torch.int8), 2)
    assert bool((spins == torch.tensor([1, -1, 1])).all())


@pytest.mark.usefixtures("both")
def test_many_small_chunks_are_as_good(monkeypatch):
    monkeypatch.setattr(sweeps, "CHUNK_ELEMENTS", 5000)
    deviation = invariance(batch_of(10, queries=4), reads=1000)
    assert deviation.sigmas <= deviation.bound


@pytest.mark.usefixtures("both")
def test_the_generator_fixes_the_chains():
    batch, start = batch_of(6), torch.ones(2, 3, 20, 6, dtype=torch.int8)
    assert torch.equal(swept(batch, start, 3, seed=1), swept(batch, start, 3, seed=1))
    assert not torch.equal(swept(batch, start, 3, seed=1), swept(batch, start, 3, seed=2))


@given(st.integers(1, 12), st.integers(0, 2**31 - 1), st.floats(0, 1))
def test_classes_are_a_partition_into_uncoupled_spins(n, seed, density):
    coupled = np.triu(np.random.default_rng(seed).random((n, n)) < density, 1)
    coupled = coupled | coupled.T
    order, blocks = sweeps._colour_classes(coupled.tobytes(), n)
    assert sorted(order) == list(range(n))
    assert [start for start, _ in blocks] == [0, *[end for _, end in blocks[:-1]]]
    assert blocks[-1][1] == n
    for start, end in blocks:
        members = list(order[start:end])
        assert not coupled[np.ix_(members, members)].any()


@pytest.mark.parametrize("n", [1, 5, 40])
@pytest.mark.parametrize("kind", ["dense", "ring", "band", "product"])
def test_local_fields_are_those_of_the_matrix(n, kind):
    """Both ways, of as many columns as are no multiple of a vector's."""
    torch.manual_seed(n)
    J = symmetric(torch.randn(2, n, n))
    if kind == "ring":
        J = J * (torch.ones(n, n).triu(-1) - torch.ones(n, n).triu(2))
    couplings = {"band": Banded(torch.randn(2, n, 3)), "product": LowRank(torch.randn(2, n))}
    couplings = couplings.get(kind, J)
    h, s = torch.randn(2, n, 37), torch.randint(0, 2, (2, n, 37)) * 2.0 - 1
    expected = h + (couplings if kind in ("dense", "ring") else couplings.dense()) @ s
    for make in (sweeps.Sweeper, CompiledSweeper):
        if make is CompiledSweeper and kernels.level() is None:
            continue
        sweeper = make(h, couplings)
        fields = sweeper.restored(sweeper.local_fields(sweeper.arrange(s)))
        torch.testing.assert_close(fields, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.skipif(kernels.level() is None, reason="no compiled library")
def test_reads_do_not_depend_on_the_number_of_threads():
    batch, start = batch_of(30), torch.ones(2, 3, 50, 30, dtype=torch.int8)
    before, reads = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            reads.append(swept(batch, start, 3))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*reads)


@pytest.mark.skipif(kernels.level() is None, reason="no compiled library")
def test_noise_is_uniform_and_independent():
    """Without couplings, 1.5 million draws: each column, each sweep and each spin is its own."""
    h = torch.tensor([0.0, 0.8, -1.6])[:, None].expand(1, 3, 16_384)
    sweeper = CompiledSweeper(h, torch.zeros(1, 3, 3))
    s, generator = torch.ones(1, 3, 16_384), torch.Generator().manual_seed(0)
    draws = []
    for _ in range(32):
        sweeper.sweep(s, generator)
        draws.append(s[0].double().clone())
    x = torch.stack(draws)  # sweeps, spins, columns
    mean = torch.tensor([0.0, 0.8, -1.6]).double().tanh()
    sd = (1 - mean**2).sqrt()
    z = (x - mean[:, None]) / sd[:, None]
    count = z[:, 0].numel()
    assert (z.mean((0, 2)).abs() * math.sqrt(count)).max() < 5
    pairs = [
        z[:-1] * z[1:],
        z[..., :-1] * z[..., 1:],
        z[:, :1] * z[:, 1:],
        z[..., 16:] * z[..., :-16],
    ]
    for product in pairs:
        assert (product.mean((0, 2)).abs() * math.sqrt(product[:, 0].numel())).max() < 5
