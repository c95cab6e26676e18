"""Bands: transfer matrices, in plain PyTorch and compiled."""

import math
from contextlib import nullcontext
from statistics import NormalDist

import pytest
import torch
from _support.brute_force import expectations
from _support.peak_memory import PeakMemory
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import vmap

from qattn import IsingBatch, exact, kernels
from qattn.couplings import Banded
from qattn.exact.chain import engine, windows
from qattn.testing import FALSE_ALARM

WAYS = ("twin", *kernels.LEVELS)


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """Each way to compute in float32 that this machine has."""
    if request.param == "twin":
        with kernels.disabled():
            yield request.param
        return
    monkeypatch.setenv("QATTN_KERNELS", request.param)
    kernels._library.cache_clear()
    if kernels.level() != request.param:
        pytest.skip(f"no kernels for {request.param}")
    yield request.param
    kernels._library.cache_clear()


def random_band(n, width, *, seed, dtype=torch.float64, queries=4, relative=False, rows=1):
    """Queries of random lengths, in any order, at a β of each group's own."""
    torch.manual_seed(seed)
    h, values = torch.randn(2, queries, n), 0.7 * torch.randn(2, n, width)
    if relative:
        values = values[:, :1].expand(-1, n, -1)
    lengths = torch.randint(0, n + 1, (queries,) if rows == 1 else (rows, queries))
    beta = 0.5 + torch.rand(2)
    return IsingBatch(h.to(dtype), Banded(values.to(dtype)), lengths, beta.to(dtype))


def outcome(batch, dense=False):
    """Occupations, log Z, and the gradients of random sums of both in h, values and β."""
    torch.manual_seed(1)
    h, values = batch.h.detach().clone().requires_grad_(), batch.J.values.detach()
    values, beta = values.clone().requires_grad_(), batch.beta.clone().requires_grad_()
    batch = IsingBatch(h, Banded(values), batch.lengths, beta, validate=False)
    batch = batch.dense() if dense else batch
    results = []
    for value in (exact.occupations(batch), exact.log_partition(batch)):
        loss = (value * torch.randn(value.shape).to(value)).sum()
        grads = torch.autograd.grad(loss, (h, values, beta), allow_unused=dense)
        results += [value, *(g if g is not None else torch.zeros_like(values) for g in grads)]
    return [x.detach() for x in results]


def assert_outcomes_agree(found, expected, moments, gradients):
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        bound = gradients if i % 4 else moments
        torch.testing.assert_close(a.double(), b.double(), atol=bound, rtol=bound)


@pytest.mark.parametrize("width", range(7))
def test_moments_and_gradients_equal_enumeration(width):
    for n in range(1, 17):
        kinds = {"relative": n % 2 == 0, "rows": 1 + n % 3 // 2}
        batch = random_band(n, width, seed=n, queries=3, **kinds)
        assert_outcomes_agree(outcome(batch), outcome(batch, dense=True), 1e-10, 1e-8)


@pytest.mark.parametrize("width", range(1, 9))
def test_single_precision_equals_double(way, width):
    long = (2048 >> width) + 9  # more than the compiled loops keep at a time
    for n, queries in ((1, 3), (5, 18), (16, 5), (long, 3)):
        for kinds in ({"relative": True}, {"rows": 2})[: 1 if n == long else 2]:
            single = random_band(n, width, seed=n, dtype=torch.float32, queries=queries, **kinds)
            double = IsingBatch(
                single.h.double(), single.J.to(torch.float64), single.lengths, single.beta.double()
            )
            found, expected = outcome(single), outcome(double)
            for i in (3, 7):  # derivatives in β are small sums of many large terms
                found[i] = expected[i]
            assert_outcomes_agree(found, expected, 3e-5, 1e-4)


@pytest.mark.parametrize("normalize", [False, True])
def test_gradcheck(normalize):
    h, values = torch.randn(2, 3, 7, dtype=torch.float64), torch.randn(2, 7, 3).double()
    lengths, beta = torch.tensor([7, 2, 6]), torch.tensor([0.5, 1.2], dtype=torch.float64)

    def both(h, values, beta):
        batch = IsingBatch(h, Banded(values), lengths, beta)
        up = exact.occupations(batch, normalize=normalize)
        return up if normalize else (up, exact.log_partition(batch))

    leaves = (x.requires_grad_() for x in (h, values, beta))
    assert torch.autograd.gradcheck(both, tuple(leaves), fast_mode=False)


def test_uniform_chain_has_its_closed_form():
    # T_ss' = e^{J s s' + h (s + s')/2} has eigenvalues λ and projections v of e^{h s/2}.
    J, h, n = 0.6, 0.2, 1000
    s = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    eigenvalues, vectors = torch.linalg.eigh(
        torch.exp(J * s[:, None] * s + h * (s[:, None] + s) / 2)
    )
    ends = (vectors.mT @ torch.exp(h * s / 2)).square()
    log_top = eigenvalues[1].log()
    log_Z = (n - 1) * log_top + (ends @ (eigenvalues / eigenvalues[1]) ** (n - 1)).log()
    mean = math.sinh(h) / math.sqrt(math.sinh(h) ** 2 + math.exp(-4 * J))
    chain = Banded.relative(torch.full((1, 1), J, dtype=torch.float64), n)
    batch = IsingBatch(torch.full((1, 1, n), h, dtype=torch.float64), chain)
    torch.testing.assert_close(exact.log_partition(batch)[0, 0], log_Z)
    middle = exact.mean_spins(batch)[0, 0, n // 2]
    torch.testing.assert_close(middle, torch.tensor(mean, dtype=torch.float64))


def strong_band(queries=2):
    """1,024 spins in a frustrated band of 8."""
    torch.manual_seed(0)
    h, values = 3 * torch.randn(1, 1024, queries), 2 * torch.randn(1, 1024, 8)
    return h, Banded(values), torch.full((1, queries), 1024)


def test_strong_couplings_in_single_precision(way):
    h, couplings, lengths = strong_band()
    solution = engine.forward(h, couplings, lengths)
    expected = engine.forward(h.double(), couplings.to(torch.float64), lengths)
    torch.testing.assert_close(solution.up.double(), expected.up, atol=5e-5, rtol=0)
    if way != "twin":  # which takes four steps at a time, and so asks for float64
        assert bool(solution.accurate)
    grad = torch.randn(h.shape)
    found = engine.backward(grad, None, h, couplings, lengths, solution)
    double = engine.backward(
        grad.double(), None, h.double(), couplings.to(torch.float64), lengths, expected
    )
    for a, b in zip(found, double, strict=True):
        torch.testing.assert_close(a.double(), b, atol=1e-4, rtol=1e-4)


def test_small_occupations_keep_their_relative_accuracy(way):
    torch.manual_seed(0)
    single = IsingBatch(-17 + torch.randn(1, 3, 40), Banded(0.5 * torch.randn(1, 40, 3)))
    double = IsingBatch(single.h.double(), single.J.to(torch.float64))
    up, expected = exact.occupations(single), exact.occupations(double)
    assert float(expected.max()) < 1e-10
    assert float(((up - expected) / expected).abs().max()) < 3e-5


def test_what_leaves_single_precision_is_computed_in_double(way):
    torch.manual_seed(0)
    single = IsingBatch(-60 + torch.randn(1, 3, 20), Banded(0.5 * torch.randn(1, 20, 3)))
    double = IsingBatch(single.h.double(), single.J.to(torch.float64))
    solution = engine.forward(single.h.mT, single.J, torch.full((1, 3), 20))
    assert not bool(solution.accurate)
    shares = exact.occupations(single, normalize=True)
    expected = exact.occupations(double, normalize=True)
    torch.testing.assert_close(shares.double(), expected, atol=0, rtol=1e-5)


LENGTHS = [None, torch.tensor([5, 4, 6, 3, 0]), torch.tensor([[4, 6, 6, 1, 5], [6, 4, 2, 0, 6]])]


@pytest.mark.parametrize("lengths", LENGTHS)
def test_log_space_where_double_underflows(lengths, monkeypatch):
    # Two fields of 900 against a coupling of -1000: beyond products of float64.
    monkeypatch.setattr("qattn.exact.chain.log_space.CHUNK_ELEMENTS", 200)
    torch.manual_seed(0)
    h, values = torch.randn(2, 5, 6).double(), torch.randn(2, 6, 3).double()
    values[:, 3, 2], h[..., [0, 3]] = -1000.0, 900.0
    batch = IsingBatch(h, Banded(values), lengths, torch.tensor([1.0, 0.9]).double())
    rows = torch.full((1, 5), 6) if lengths is None else lengths.reshape(-1, 5)
    scaled, J = batch.scaled_structure()
    (failed,) = engine.forward(scaled.mT, J, rows).saved
    assert failed.sum() >= 5
    expected = expectations(batch, batch.h, batch.J.dense())
    torch.testing.assert_close(exact.log_partition(batch), expected.log_Z)
    torch.testing.assert_close(exact.mean_spins(batch), expected.mean)
    torch.testing.assert_close(exact.pair_correlations(batch), expected.pairs)
    assert_outcomes_agree(outcome(batch), outcome(batch, dense=True), 1e-9, 1e-8)


def test_what_is_not_finite_stays_in_its_query(way):
    batch = random_band(12, 3, seed=3, dtype=torch.float32)
    h, lengths = batch.h.clone(), torch.tensor([12, 9, 12, 3])
    clean = outcome(IsingBatch(h, batch.J, lengths, batch.beta))
    for bad in (math.nan, math.inf, -math.inf):
        spoilt = h.clone()
        spoilt[0, 2, 7] = bad
        spoilt[1, 3, 5] = bad  # an absent spin
        found = outcome(IsingBatch(spoilt, batch.J, lengths, batch.beta, validate=False))
        for i in (0, 1, 4, 5):  # values and gradients that belong to a query
            assert bool(found[i][0, 2].isnan().any())
            found[i][0, 2] = clean[i][0, 2]
            torch.testing.assert_close(found[i], clean[i])


def test_what_is_not_finite_in_the_couplings(way):
    batch = random_band(12, 3, seed=3, dtype=torch.float32)
    lengths, values = torch.tensor([12, 8, 7, 3]), batch.J.values.clone()
    clean = exact.occupations(IsingBatch(batch.h, Banded(values), lengths))
    values[0, 7, 1] = math.nan
    up = exact.occupations(IsingBatch(batch.h, Banded(values), lengths, validate=False))
    assert bool(up[0, 0].isnan().all())
    assert bool(up[0, 1, :8].isnan().all())
    torch.testing.assert_close(up[0, 2:], clean[0, 2:])
    torch.testing.assert_close(up[1], clean[1])


def test_chunks_and_tiles_change_nothing(monkeypatch):
    batch = random_band(37, 3, seed=1, queries=21)
    whole = outcome(batch)
    monkeypatch.setattr(windows, "CHUNK_ELEMENTS", 1)
    monkeypatch.setattr(engine, "TILE_ELEMENTS", 1)
    assert_outcomes_agree(outcome(batch), whole, 1e-12, 1e-12)


def test_threads_change_nothing_but_the_order_of_sums(way):
    batch = random_band(50, 4, seed=2, dtype=torch.float32, queries=70)
    one = outcome(batch)
    try:
        torch.set_num_threads(5)
        several, again = outcome(batch), outcome(batch)
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(several, again, strict=True))
    assert_outcomes_agree(several, one, 1e-5, 1e-4)


def test_members_of_a_vmap_equal_a_loop():
    torch.manual_seed(0)
    h, values = torch.randn(3, 2, 4, 6), torch.randn(3, 2, 6, 2)
    lengths = torch.tensor([6, 3, 5, 0])

    def moments(h, values):
        batch = IsingBatch(h, Banded(values), lengths, validate=False)
        return exact.occupations(batch), exact.log_partition(batch)

    def gradient(h, values):
        return torch.func.grad(lambda *x: moments(*x)[0].square().sum(), (0, 1))(h, values)

    for function in (moments, gradient):
        found = vmap(function)(h, values)
        for i in range(3):
            for a, b in zip(found, function(h[i], values[i]), strict=True):
                torch.testing.assert_close(a[i], b)


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.integers(2, 40), st.integers(1, 5))
def test_gauge_flips_turn_the_spins(seed, n, width):
    batch = random_band(n, width, seed=seed)
    gauge = 2.0 * torch.randint(0, 2, (n,)) - 1
    values = batch.J.values.clone()
    for d in range(1, min(width, n - 1) + 1):
        values[:, d:, d - 1] *= gauge[d:] * gauge[:-d]
    flipped = IsingBatch(batch.h * gauge, Banded(values), batch.lengths, batch.beta)
    torch.testing.assert_close(exact.mean_spins(flipped), gauge * exact.mean_spins(batch))
    torch.testing.assert_close(exact.log_partition(flipped), exact.log_partition(batch))


@pytest.mark.parametrize("compiled", [True, False])
def test_memory_is_bounded(compiled):
    torch.manual_seed(0)
    h, values = torch.randn(1, 4096, 64), Banded(0.3 * torch.randn(1, 4096, 8))
    lengths = torch.full((1, 64), 4096)
    with nullcontext() if compiled else kernels.disabled(), PeakMemory() as memory:
        solution = engine.forward(h, values, lengths)
        engine.backward(torch.ones_like(h), None, h, values, lengths, solution)
    # Less than the messages take after every fourth spin, with those of f.
    assert memory.peak < 1024 * 2**8 * 64 * 2 * 4


@pytest.mark.parametrize(("n", "width"), [(256, 4), (1024, 2)])
def test_reads_are_at_the_noise_floor(n, width):
    # z_j = (mean of the reads - ⟨s_j⟩) / its standard error: Σ z²/n has mean 1, and variance
    # 2 Σ ρ²/n² with the correlations ρ of the spins; those of the reads make it a little larger.
    torch.manual_seed(0)
    h, values = 0.7 * torch.randn(2, 1, n).double(), 0.3 * torch.randn(2, n, width).double()
    batch, N = IsingBatch(h, Banded(values.requires_grad_())), 2000
    spins = exact.sample(batch, N, seed=1).spins[:, 0].double()
    mean = exact.mean_spins(batch)[:, 0].detach()
    normal = (spins - mean.unsqueeze(1)) / (1 - mean.unsqueeze(1) ** 2).sqrt()
    sd = (2 * (normal.mT @ normal / N).square().mean((1, 2))).sqrt()

    def sigmas(expected):
        z2 = (spins.mean(1) - expected).square() * N / (1 - expected**2)
        return float(((z2.mean(-1) - 1) / sd).abs().max())

    bound = -NormalDist().inv_cdf(FALSE_ALARM / 2 / 2)
    assert sigmas(mean) < bound
    cooler = exact.mean_spins(IsingBatch(h, Banded(values.detach()), beta=0.95))[:, 0]
    assert sigmas(cooler) > bound
    assert sigmas(h.tanh()[:, 0]) > bound  # no couplings
    # Neighbours: ∂ log Z/∂J = ⟨s s⟩, and that of reads has a standard error of √((1 - ⟨ss⟩²)/N).
    (pairs,) = torch.autograd.grad(exact.log_partition(batch).sum(), values)
    found = (spins[..., 1:] * spins[..., :-1]).mean(1)
    z = (found - pairs[:, 1:, 0]) / ((1 - pairs[:, 1:, 0] ** 2) / N).sqrt()
    assert float(z.abs().max()) < -NormalDist().inv_cdf(FALSE_ALARM / 2 / z.numel())


def test_reads_of_lengths_in_any_order_and_of_strong_couplings():
    torch.manual_seed(0)
    lengths, N = torch.tensor([[9, 0, 4], [1, 9, 8]]), 4000
    values = torch.randn(2, 9, 3)
    values[:, 5, 1] = -1000.0
    batch = IsingBatch(torch.randn(2, 3, 9), Banded(values), lengths)
    spins = exact.sample(batch, N, seed=4).spins
    assert bool((spins.ne(0) == batch.active.unsqueeze(2)).all())
    mean = exact.mean_spins(batch)
    z = (spins.double().mean(2) - mean) / ((1 - mean**2).clamp_min(1e-12) / N).sqrt()
    bound = -NormalDist().inv_cdf(FALSE_ALARM / 2 / z.numel())
    assert float(z[batch.active].abs().max()) < bound
