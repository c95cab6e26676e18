"""The engine of potentials on counts: limits, extreme potentials, long contexts, and kernels."""

import contextlib

import pytest
import torch
from _support.brute_force import all_states
from hypothesis import given, settings
from hypothesis import strategies as st

from qattn import IsingBatch, exact, kernels
from qattn.couplings import Cardinality, LowRank
from qattn.exact import counts

LOOPS = pytest.mark.parametrize("compiled", [True, False])


def loops(compiled):
    return contextlib.nullcontext() if compiled else kernels.disabled()


def enumerated(batch, h=None, values=None):
    """Log Z and occupations in float64, from the definition, of one group; differentiable."""
    h = (batch.h if h is None else h).double()
    values = (batch.J.values if values is None else values).double()
    log_Z, up = [], torch.zeros(h.shape[1:], dtype=torch.float64)
    for q, length in enumerate(batch.num_active[0]):
        S = all_states(int(length))
        count = (S > 0).sum(1)
        allowed = count < values.shape[1]
        S, count = S[allowed], count[allowed]
        w = S @ h[0, q, :length] + values[0][count]
        log_Z.append(w.logsumexp(0))
        up[q, :length] = w.softmax(0) @ S.relu()
    return torch.stack(log_Z), up


def potential(n, max_count, seed, forbidden=0.3):
    """Random log φ, of which some counts are forbidden; 0 and 1 are not."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(1, max_count + 1, generator=generator, dtype=torch.float64)
    mask = torch.rand(1, max_count + 1, generator=generator) < forbidden
    mask[:, :2] = False
    return Cardinality(values.masked_fill(mask, -torch.inf), n)


@LOOPS
@pytest.mark.parametrize("n", [1, 2, 4, 7, 12])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 3e-5)])
def test_potentials_that_forbid_counts_and_are_cut(n, dtype, tolerance, compiled):
    torch.manual_seed(n)
    for max_count in {1, n // 2 + 1, n, n + 3}:
        couplings = potential(n, max_count, seed=n).to(dtype)
        h = torch.randn(1, 20, n, dtype=torch.float64).to(dtype)
        batch = IsingBatch(h, couplings, torch.randint(0, n + 1, (20,)))
        log_Z, up = enumerated(batch)
        with loops(compiled):
            found = exact.log_partition(batch)[0], exact.occupations(batch)[0]
        assert (found[0] - log_Z).abs().max() <= tolerance * max(1, log_Z.abs().max())
        assert (found[1] - up).abs().max() <= tolerance


@LOOPS
@pytest.mark.parametrize("spread", [1.0, 8.0])
@pytest.mark.parametrize("n", [12, 256])
def test_it_is_sigmoid_and_softmax_attention(n, spread, compiled):
    torch.manual_seed(0)
    scores, g = spread * torch.randn(2, 30, n), torch.randn(2, 30, n)
    limits = [
        (Cardinality(torch.zeros(2, n + 1), n), torch.sigmoid),
        (Cardinality.subset(1, num_groups=2, num_spins=n), lambda x: x.softmax(-1)),
        (Cardinality.competitive(torch.full((2,), 200.0), n), lambda x: x.softmax(-1)),
    ]
    for couplings, attention in limits:
        x = scores.clone().requires_grad_()
        with loops(compiled):
            weights = exact.occupations(IsingBatch(x / 2, couplings))
            (grad,) = torch.autograd.grad(weights, x, g)
        x = scores.double().requires_grad_()
        wanted = attention(x)
        (right,) = torch.autograd.grad(wanted, x, g.double())
        assert ((weights - wanted) / wanted).abs().max() <= 1e-5
        # A gradient is a difference: relative to what the weight could contribute, as far as
        # float64 knows 1 - w.
        scale = wanted * (1 - wanted).clamp_min(1e-9) * 4 * g.abs().max()
        assert ((grad - right) / scale).abs().max() <= 1e-5


@pytest.mark.parametrize("k", [2, 5])
def test_subsets_have_their_size(k):
    torch.manual_seed(0)
    subset = Cardinality.subset(k, num_groups=1, num_spins=9, dtype=torch.float64)
    batch = IsingBatch(3 * torch.randn(1, 6, 9, dtype=torch.float64), subset)
    up = exact.occupations(batch)
    torch.testing.assert_close(up.sum(-1), torch.full((1, 6), float(k), dtype=torch.float64))
    torch.testing.assert_close(up[0], enumerated(batch)[1], rtol=1e-12, atol=0)
    assert (exact.sample(batch, 50, seed=0).spins.relu().sum(-1) == k).all()


@LOOPS
def test_competition_is_a_negative_coupling_of_rank_one(compiled):
    torch.manual_seed(1)
    n, strength = 12, torch.tensor([0.0, 0.3, 1.5], dtype=torch.float64)
    scores = torch.randn(3, 12, n, dtype=torch.float64)
    lengths = torch.arange(1, n + 1)
    with loops(compiled):
        found = exact.occupations(
            IsingBatch(scores / 2, Cardinality.competitive(strength, n), lengths)
        )
        h = scores / 2 + strength[:, None, None] * (2 - lengths[:, None])
        J = -strength[:, None, None] * (1 - torch.eye(n, dtype=torch.float64))
        dense = exact.occupations(IsingBatch(h, J, lengths))
        U = strength.sqrt()[:, None].expand(3, n)
        quadrature = exact.occupations(IsingBatch(h, LowRank(U, sign=-1), lengths))
    torch.testing.assert_close(found, dense, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found, quadrature, rtol=1e-5, atol=1e-5)


def test_gradcheck_with_forbidden_counts():
    torch.manual_seed(2)
    h = torch.randn(1, 3, 5, dtype=torch.float64, requires_grad=True)
    values = potential(5, 4, seed=3).values.clone()
    allowed = values > -torch.inf
    assert not allowed.all()
    free = values[allowed].requires_grad_()

    def moments(h, free):
        couplings = Cardinality(values.masked_scatter(allowed, free), 5)
        batch = IsingBatch(h, couplings, torch.tensor([5, 1, 3]), beta=0.7)
        return exact.occupations(batch, normalize=True), exact.log_partition(batch)

    assert torch.autograd.gradcheck(moments, (h, free))


@LOOPS
@pytest.mark.parametrize("what", ["occupations", "log Z"])
def test_gradients_of_extreme_models(what, compiled):
    # All or nothing: the counts between, whose weights a tilt could raise, are forbidden. At 40 in
    # float32 and at 300 in float64 the weights of the states underflow.
    for size, dtype in ((40.0, torch.float32), (300.0, torch.float64)):
        scores = torch.tensor([1.0, -1.0]).repeat(5) * size
        scores = scores.to(dtype) + torch.linspace(-1, 1, 10, dtype=dtype)
        values = torch.full((1, 11), -torch.inf, dtype=dtype)
        values[0, 0], values[0, 10] = 0.3, 0.1
        leaves = (scores.expand(1, 1, 10) / 2).clone().requires_grad_(), values.requires_grad_()
        batch = IsingBatch(leaves[0], Cardinality(leaves[1], 10))
        with loops(compiled):
            if what == "log Z":
                found, wanted = exact.log_partition(batch)[0], enumerated(batch)[0]
            else:
                found, wanted = exact.occupations(batch)[0, 0, :1], enumerated(batch)[1][0, :1]
            tolerance = {"rtol": 1e-5, "atol": 1e-6, "check_dtype": False}
            torch.testing.assert_close(found, wanted, **tolerance)
            grads = torch.autograd.grad(found.sum(), leaves)
        rights = torch.autograd.grad(wanted.sum(), leaves)
        for grad, right in zip(grads, rights, strict=True):
            torch.testing.assert_close(grad, right.nan_to_num(0.0), **tolerance)


@LOOPS
@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**20),
    spread=st.floats(0, 100),
    slope=st.floats(-200, 200),
    max_count=st.integers(1, 9),
)
def test_strong_fields_and_potentials(compiled, seed, spread, slope, max_count):
    torch.manual_seed(seed)
    values = spread * torch.randn(1, max_count + 1) + slope * torch.arange(max_count + 1.0)
    batch = IsingBatch(spread * torch.randn(1, 5, 8), Cardinality(values, 8))
    log_Z, up = enumerated(batch)
    with loops(compiled):
        assert (exact.occupations(batch)[0] - up).abs().max() <= 3e-5
        error = (exact.log_partition(batch)[0] - log_Z).abs().max()
    assert error <= 3e-6 * max(1.0, float(log_Z.abs().max() + 8 * spread))


@LOOPS
@settings(max_examples=15)
@given(seed=st.integers(0, 2**20), shift=st.floats(-20, 20), n=st.integers(1, 40))
def test_a_shift_of_scores_is_a_factor_of_the_potential(compiled, seed, shift, n):
    torch.manual_seed(seed)
    h, order = torch.randn(1, 3, n), torch.randperm(n)
    values = torch.randn(1, min(n, 6) + 1)
    tilted = values - 2 * shift * torch.arange(values.shape[1])
    with loops(compiled):
        up = exact.occupations(IsingBatch(h, Cardinality(values, n)))
        other = exact.occupations(IsingBatch(h[..., order] + shift, Cardinality(tilted, n)))
    torch.testing.assert_close(other, up[..., order], rtol=1e-3, atol=1e-5)


@LOOPS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_query_with_too_few_spins_attends_to_all(dtype, compiled):
    torch.manual_seed(0)
    h = torch.randn(1, 4, 4, dtype=dtype, requires_grad=True)
    values = torch.tensor([[-torch.inf, -torch.inf, 0.4, 0.0]], dtype=dtype, requires_grad=True)
    batch = IsingBatch(h, Cardinality(values, 4), torch.arange(4))
    with loops(compiled):
        up, log_Z = exact.occupations(batch), exact.log_partition(batch)
        grads = torch.autograd.grad(log_Z.sum() + (up * h).sum(), (h, values))
    torch.testing.assert_close(up[0, :2], torch.tensor([[0, 0, 0, 0], [1, 0, 0, 0]], dtype=dtype))
    assert torch.equal(log_Z[0, :2], torch.full((2,), -torch.inf, dtype=dtype))
    assert (exact.sample(batch, 3, seed=0).spins[0, 1, :, 0] == 1).all()
    for grad in grads:
        assert grad.isfinite().all()
    # As if the two were not there: their weights are constants, and log Z is none.
    few = IsingBatch(h[:, 2:], Cardinality(values, 4), torch.tensor([2, 3]))
    right = torch.autograd.grad(
        exact.log_partition(few).sum() + (exact.occupations(few) * h[:, 2:]).sum() + h[0, 1, 0],
        (h, values),
    )
    torch.testing.assert_close(grads, right)


def test_no_position_may_be_attended():
    batch = IsingBatch(torch.randn(1, 3, 5), Cardinality(torch.zeros(1, 1), 5))
    assert not exact.occupations(batch).any()
    assert not exact.occupations(batch, normalize=True).any()
    torch.testing.assert_close(exact.log_partition(batch), -batch.h.sum(-1))


def test_probabilities_of_counts_and_the_bound_of_a_cut():
    torch.manual_seed(0)
    n, K = 40, 8
    h = torch.randn(1, 1, n, dtype=torch.float64) / 2 - 1.2
    strength = torch.tensor([0.02], dtype=torch.float64)

    def distribution(max_count):
        values = Cardinality.competitive(strength, n, max_count=max_count).values
        values = values.requires_grad_()
        log_Z = exact.log_partition(IsingBatch(h, Cardinality(values, n)))
        return torch.autograd.grad(log_Z.sum(), values)[0][0]

    cut, full = distribution(K), distribution(n)
    torch.testing.assert_close(full.sum(), torch.ones((), dtype=torch.float64))
    torch.testing.assert_close(full[: K + 1] / full[: K + 1].sum(), cut)
    r = cut[K] / cut[K - 1]
    left_out = full[K + 1 :].sum() / full[: K + 1].sum()
    assert 0.2 * cut[K] * r / (1 - r) < left_out < cut[K] * r / (1 - r)


@LOOPS
def test_float32_at_a_thousand_positions(compiled):
    torch.manual_seed(0)
    n = 1024
    h, values = 2 * torch.randn(1, 6, n) - 3, 2 * torch.randn(1, 17)
    g, lengths = torch.randn(1, 6, n), torch.tensor([1, 15, 200, 700, 1000, 1024])
    results = []
    for dtype in (torch.float32, torch.float64):
        leaves = h.to(dtype).requires_grad_(), values.to(dtype).requires_grad_()
        batch = IsingBatch(leaves[0], Cardinality(leaves[1], n), lengths)
        with loops(compiled):
            up, log_Z = exact.occupations(batch), exact.log_partition(batch)
            grads = torch.autograd.grad((up * g).sum(), leaves)
        results.append((up, log_Z / 1000, *grads))
    for found, wanted in zip(*results, strict=True):
        assert (found - wanted).abs().max() <= 1e-5


SIZES = [(1, 1), (3, 2), (9, 3), (33, 4), (20, 8), (50, 16), (37, 17), (70, 40)]


@pytest.mark.skipif(kernels.level() is None, reason="no compiled kernels here")
@pytest.mark.parametrize(("n", "max_count"), SIZES)
def test_kernel_and_twin_agree(n, max_count):
    torch.manual_seed(n)
    h, lengths = 1.5 * torch.randn(3, n, 37), torch.randint(0, n + 1, (3, 37))
    values = torch.randn(3, max_count + 1)
    values[1, 0] = -torch.inf
    values[2, : max_count // 2] = -torch.inf
    g_up, g_log_Z = torch.randn_like(h), torch.randn(3, 37)
    # Not contiguous, as in attention.
    h = h.mT.contiguous().mT
    couplings, found = Cardinality(values, n), []
    for compiled in (True, False):
        with loops(compiled):
            s = counts.forward(h, couplings, lengths)
            assert s.accurate
            found.append(
                (
                    s.up,
                    s.log_Z / n,
                    *counts.backward(g_up, None, h, couplings, lengths, s),
                    *counts.backward(None, g_log_Z, h, couplings, lengths, s),
                )
            )
    for kernel, twin in zip(*found, strict=True):
        torch.testing.assert_close(kernel, twin, rtol=1e-4, atol=2e-5)


@pytest.mark.skipif(kernels.level() is None, reason="no compiled kernels here")
def test_threads_and_broken_queries_change_no_other_query():
    torch.manual_seed(0)
    h, g = torch.randn(3, 20, 50), torch.randn(3, 20, 50)
    couplings = Cardinality(torch.randn(3, 6), 20)
    lengths = torch.arange(50)[None] % 20 + 1
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            s = counts.forward(h, couplings, lengths)
            found.append((s.up, s.log_Z, *counts.backward(g, None, h, couplings, lengths, s)))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))
    broken, mask = h.clone(), torch.zeros(3, 50, dtype=torch.bool)
    broken[0, 0, 7], broken[2, 0, 40] = torch.inf, torch.nan
    mask[0, 7] = mask[2, 40] = True
    for compiled in (True, False):
        with loops(compiled):
            s = counts.forward(broken, couplings, lengths)
            grad = counts.backward(g, None, broken, couplings, lengths, s)[0]
            right = counts.forward(h, couplings, lengths)
        assert s.accurate
        assert torch.equal(s.log_Z.isnan(), mask)
        assert torch.equal(s.up.isnan().any(1), mask)
        assert torch.equal(grad.isnan().any(1), mask)
        torch.testing.assert_close(s.log_Z[~mask], right.log_Z[~mask])


def test_reads_of_long_queries_are_at_the_noise_floor():
    torch.manual_seed(0)
    n, reads = 256, 2000
    h = torch.randn(2, 2, n) - 2.5
    batch = IsingBatch(h, Cardinality.competitive(torch.tensor([0.0, 0.3]), n, max_count=30))
    found = exact.sample(batch, reads, seed=1).mean_spins(torch.float64) / 2 + 0.5
    # Mean squared error over its expectation, with the variance of a binomial's square; control:
    # the same fields without competition, in the group that has it.
    for models, groups, fits in (
        (batch, slice(2), True),
        (IsingBatch(h, Cardinality(torch.zeros(2, 31), n)), slice(1, 2), False),
    ):
        up = exact.occupations(models).double()[groups]
        variance = up * (1 - up) / reads
        ratio = ((found[groups] - up) ** 2 / variance).mean()
        sigma = (2 + 1 / (reads * up * (1 - up))).sum().sqrt() / up.numel()
        assert (abs(ratio - 1) < 5 * sigma) == fits
        worst = ((found[groups] - up).abs() / (variance.sqrt() + 1 / reads)).max()
        assert (worst < 5) == fits


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_members_of_a_vmap_are_groups_also_with_lengths_made_inside(dtype):
    torch.manual_seed(0)
    h, values = torch.randn(3, 2, 4, 6, dtype=dtype), torch.randn(3, 2, 4, dtype=dtype)
    values[:, 0, 0] = -torch.inf

    def loss(h, values):
        lengths = torch.arange(1, 5)
        batch = IsingBatch(h, Cardinality(values, 6), lengths, validate=False)
        return exact.occupations(batch, normalize=True)[..., 0].sum() + (
            exact.log_partition(batch).square().sum()
        )

    gradients = torch.func.grad(loss, argnums=(0, 1))
    found = torch.func.vmap(gradients)(h, values)
    for member in range(3):
        wanted = gradients(h[member], values[member])
        torch.testing.assert_close(tuple(x[member] for x in found), wanted)
