"""Rank-one couplings: the error against its bound, long sequences, and compiled sums."""

from math import log

import pytest
import torch

from qattn import IsingBatch, exact, kernels
from qattn.couplings import Banded, Cardinality, LowRank
from qattn.exact.quadrature import compiled, grid, sums

BOTH = pytest.mark.parametrize("sign", [1, -1])


def models(n, *, strength, sign, groups=2, queries=4, dtype=torch.float64, h=1.0, seed=0):
    """Fields h·N(0, 1) and normal U with ΣU² = strength."""
    torch.manual_seed(seed)
    U = torch.randn(groups, n, dtype=torch.float64)
    U *= (strength / (U**2).sum(1, keepdim=True)).sqrt()
    fields = h * torch.randn(groups, queries, n, dtype=torch.float64)
    return IsingBatch(fields.to(dtype), LowRank(U.to(dtype), sign))


def of_counts(h, J):
    """Occupations for J_jk = J, by a recursion over the number of spins up."""
    h = h.double().requires_grad_()
    n = h.shape[-1]
    log_p = torch.zeros(*h.shape[:-1], 1, dtype=torch.float64)
    none = torch.full_like(log_p, -torch.inf)
    for x in h.unbind(-1):
        up, down = torch.cat([none, log_p], -1) + x[..., None], torch.cat([log_p, none], -1)
        log_p = torch.logaddexp(up, down - x[..., None])
    a = 2 * torch.arange(n + 1, dtype=torch.float64) - n
    log_Z = (log_p + J * (a**2 - n) / 2).logsumexp(-1)
    (mean,) = torch.autograd.grad(log_Z.sum(), h)
    return (1 + mean) / 2, log_Z.detach()


@pytest.mark.parametrize("step", [0.85, 1.5, 2.0])
@BOTH
def test_the_error_is_within_its_bound(sign, step, monkeypatch):
    monkeypatch.setitem(grid.STEP, torch.float64, step)
    two_modes, reached = 0, 0.0
    for case, strength in enumerate((0.5, 2.0, 6.0, 16.0)):
        batch = models(12, strength=strength, sign=sign, groups=10, queries=5, seed=case, h=0.5)
        dense = batch.dense()
        rounding = 2e-14
        error = (exact.occupations(batch) - exact.occupations(dense)).abs().amax(-1)
        bound = exact.error_bound(batch)
        assert bool((error <= bound + rounding).all())
        error = (exact.log_partition(batch) - exact.log_partition(dense)).abs()
        assert bool((error <= bound + 10 * rounding).all())
        if sign > 0:
            reached = max(reached, float((error / bound).max()))
            assert bound.max() < 1.1 * 2 * torch.tensor(-2 * (torch.pi / step) ** 2).exp()
            x = batch.h.mT
            spins = grid.Spins(x, batch.J.values[..., None].expand_as(x), torch.ones_like(x).bool())
            low, high = grid._bracket(spins, 0.01)
            two_modes += int((high - low > 1).sum())
        else:
            assert bound.max() < 1e-13
    assert sign < 0 or (two_modes > 20 and reached > 0.3)  # it is no idle bound


@BOTH
def test_nodes_that_are_left_out_count(sign, monkeypatch):
    batch = models(12, strength=2.0, sign=sign)
    wanted = exact.occupations(batch)

    def short(spins, sign, whole=grid.grid_of):
        found = whole(spins, sign)
        return found._replace(number=(0.6 * found.number).long().clamp_min(1))

    monkeypatch.setattr("qattn.exact.quadrature.grid_of", short)
    error = (exact.occupations(batch) - wanted).abs().amax(-1)
    bound = exact.error_bound(batch)
    assert bool((error <= bound).all())
    assert bool((error > 1e-9).any())


@pytest.mark.parametrize("strength", [0.9, 1.0, 4.0])
@pytest.mark.parametrize("fields", ["weak", "as in attention"])
@pytest.mark.parametrize("compiled", [True, False])
@BOTH
def test_equal_couplings_of_256_spins(sign, compiled, fields, strength):
    # ΣU² = 1 is the critical point of the positive sign, where fluctuations are widest.
    n = 256
    torch.manual_seed(1)
    z = torch.randn(1, 3, n)
    h = 0.05 * z if fields == "weak" else (z - log(n)) / 2
    J = strength / n
    wanted, log_Z = of_counts(h, sign * J)
    if sign < 0:
        counts = Cardinality.competitive(torch.tensor([J], dtype=torch.float64), n)
        field = counts.field(torch.full((1, 3), float(n))).unsqueeze(-1)
        found = exact.occupations(IsingBatch(h.double() - field, counts))
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-12)
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 3e-5)):
        if dtype == torch.float64 and compiled:
            continue
        couplings = LowRank(torch.full((1, n), J**0.5, dtype=dtype), sign)
        batch = IsingBatch(h.to(dtype), couplings)
        with kernels.disabled() if not compiled else torch.no_grad():
            torch.testing.assert_close(
                exact.occupations(batch).double(), wanted, rtol=tolerance, atol=1e-12
            )
            assert (exact.log_partition(batch) - log_Z).abs().max() <= 10 * tolerance
            assert exact.error_bound(batch).max() < tolerance / 10


@pytest.mark.parametrize("strength", [0.5, 4.0, 12.0])
@pytest.mark.parametrize("wanted", ["occupations", "log Z"])
@BOTH
def test_compiled_sums_and_their_twin(sign, wanted, strength):
    if not kernels.level():
        pytest.skip("there is no compiled library")
    batch = models(50, strength=strength, sign=sign, queries=37, dtype=torch.float32)
    h, U = batch.h.requires_grad_(), batch.J.values.requires_grad_()
    lengths = torch.randint(0, 51, (37,))
    assert compiled.usable(h.mT, LowRank(U))
    batch = IsingBatch(h, LowRank(U, sign), lengths)
    g = torch.randn(2, 37, 50)

    def solve(batch):
        up, log_Z = exact.occupations(batch), exact.log_partition(batch)
        loss = (up * g).sum() if wanted == "occupations" else (log_Z * g[..., 0]).sum()
        return up.detach(), log_Z.detach(), *torch.autograd.grad(loss, (h, U))

    found = solve(batch)
    with kernels.disabled():
        twin = solve(batch)
        precise = solve(IsingBatch(h.double(), LowRank(U.double(), sign), lengths))
    for values in (found, twin):
        for value, right in zip(values, precise, strict=True):
            scale = max(1.0, float(right.abs().max()))
            assert (value - right).abs().max() <= 3e-5 * scale
    # Runs are repeated bit for bit, whatever the number of threads.
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        again = solve(batch)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(x, y) for x, y in zip(found, again, strict=True))


@BOTH
def test_many_blocks_of_queries_and_nodes_are_one(sign, monkeypatch):
    batch = models(9, strength=3.0, sign=sign, queries=11)
    batch = IsingBatch(batch.h, batch.J, torch.randint(0, 10, (2, 11)))
    whole = exact.occupations(batch), exact.pair_correlations(batch)
    monkeypatch.setitem(sums.CHUNK, "cpu", 40)
    torch.testing.assert_close((exact.occupations(batch), exact.pair_correlations(batch)), whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@BOTH
def test_large_fields_and_couplings(sign, dtype):
    batch = models(10, strength=60.0, sign=sign, h=200.0, dtype=dtype)
    dense = IsingBatch(batch.h.double(), batch.J.to(torch.float64).dense())
    tolerance = 3e-5 if dtype == torch.float32 else 1e-10
    assert (exact.occupations(batch) - exact.occupations(dense)).abs().max() <= tolerance
    relative = exact.log_partition(batch).double() / exact.log_partition(dense) - 1
    assert relative.abs().max() <= tolerance


@pytest.mark.parametrize("compiled", [True, False])
@BOTH
def test_small_occupations_keep_their_digits(sign, compiled):
    batch = models(14, strength=2.0, sign=sign)
    batch = IsingBatch(batch.h - 12, batch.J)
    wanted = exact.occupations(IsingBatch(batch.h, batch.J.dense()))
    assert wanted.max() < 1e-5
    with kernels.disabled() if not compiled else torch.no_grad():
        single = IsingBatch(batch.h.float(), batch.J.to(torch.float32))
        found = exact.occupations(single).double()
    # The rounding of h itself, times 2, is what a relative error cannot be below.
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=0)


def test_few_spins_that_rounding_would_spoil_are_enumerated():
    # One spin, two and three equal spins that all compete: no state has Σ U s near 0.
    torch.manual_seed(0)
    lengths = torch.tensor([1, 2, 3])
    for U in (4.0, 9.0):
        h = torch.randn(1, 3, 3, dtype=torch.float64, requires_grad=True)
        values = torch.full((1, 3), U, dtype=torch.float64, requires_grad=True)
        couplings = LowRank(values, sign=-1)
        for what in (exact.occupations, exact.log_partition):
            found, wanted = (
                what(IsingBatch(h, J, lengths)) for J in (couplings, couplings.dense())
            )
            torch.testing.assert_close(found, wanted)
            outer = torch.randn_like(found)
            grads = (torch.autograd.grad(x, (h, values), outer) for x in (found, wanted))
            for found_grad, wanted_grad in zip(*grads, strict=True):
                torch.testing.assert_close(found_grad, wanted_grad)
        assert float(exact.error_bound(IsingBatch(h, couplings, lengths)).amax()) < 1e-6


def test_reads_that_float64_accepts_in_float32():
    # An odd number of equal spins: Σ U s is at least U, which exp(-U²/2) of the proposals pass.
    h, couplings = torch.zeros(1, 1, 9), LowRank(torch.full((1, 9), 3.8), sign=-1)
    reads = exact.sample(IsingBatch(h, couplings), 100, seed=0)
    assert bool((reads.spins.sum(-1).abs() == 1).all())


def test_what_rounding_would_spoil_is_refused():
    h, strong = torch.zeros(1, 1, 17), LowRank(torch.full((1, 17), 9.0), sign=-1)
    for what in (exact.occupations, exact.log_partition):
        with pytest.raises(ValueError, match=r"so large that Z is less.*more than 16 spins"):
            what(IsingBatch(h, strong))
    with pytest.raises(ValueError, match=r"accept only .*dense\(\)"):
        exact.sample(IsingBatch(h, strong), 10)


@pytest.mark.parametrize("n", [256, pytest.param(1024, marks=pytest.mark.slow)])
@BOTH
def test_independent_reads_of_long_sequences(sign, n):
    # 5 sigma, with Bonferroni over n spins and 3 queries: 6.5. Control: reads without couplings.
    reads, sigmas = 2000, 6.5
    batch = models(n, strength=3.0, sign=sign, groups=1, queries=3, h=0.7)
    gamma = torch.ones((), dtype=torch.float64, requires_grad=True)
    U = batch.J.values
    log_Z = exact.log_partition(IsingBatch(batch.h, LowRank(gamma * U, sign)))
    mean = 2 * exact.occupations(batch) - 1
    # ∂ log Z/∂γ of couplings γ²UU is σ(<a²> - ΣU²), a = Σ U s.
    squares = [torch.autograd.grad(z, gamma, retain_graph=True)[0] for z in log_Z.flatten()]
    square = sign * torch.stack(squares).view(1, 3) + (U**2).sum()
    for J, fits in ((batch.J, True), (LowRank(0 * U, sign), False)):
        samples = exact.sample(IsingBatch(batch.h, J), reads, seed=0)
        error = ((1 - mean**2) / reads).sqrt() + 1 / reads
        worst = ((samples.mean_spins(torch.float64) - mean).abs() / error).max()
        a = (samples.spins.double() * U).sum(-1) ** 2
        far = ((a.mean(2) - square).abs() / (a.std(2) / reads**0.5)).max()
        assert (float(max(worst, far)) < sigmas) == fits


def test_other_engines_have_no_error_but_rounding():
    h = torch.zeros(1, 2, 3)
    for J in (torch.zeros(1, 3, 3), Banded(torch.zeros(1, 3, 1))):
        assert torch.equal(exact.error_bound(IsingBatch(h, J)), torch.zeros(1, 2))
