"""The exact engine against sums over all states."""

import pytest
import torch
from _support.brute_force import (
    SCALES,
    TOLERANCE,
    all_states,
    expectations,
    random_batch,
    random_couplings,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from qattn import IsingBatch, exact
from qattn.exact.dense import autograd
from qattn.exact.dense.layout import cut

GRADIENT_TOLERANCE = 1e-8


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("J_scale", "h_scale"), SCALES)
@pytest.mark.parametrize("n", range(1, 15))
def test_moments_equal_brute_force(n, J_scale, h_scale, dtype):
    batch = random_batch(n, J_scale, h_scale, seed=n, dtype=dtype)
    expected = expectations(batch, batch.h, batch.J)
    log_Z, mean = exact.log_partition(batch), exact.mean_spins(batch)
    assert log_Z.dtype == mean.dtype == dtype
    scale = expected.log_Z.abs().clamp_min(1.0)
    assert ((log_Z - expected.log_Z).abs() / scale).max() < TOLERANCE[dtype]
    assert (mean - expected.mean).abs().max() < TOLERANCE[dtype]
    assert (mean == 0).logical_or(batch.active).all()
    pairs = exact.pair_correlations(batch)
    assert (pairs - expected.pairs).abs().max() < TOLERANCE[dtype]


@pytest.mark.parametrize(("J_scale", "h_scale"), SCALES)
@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 11])
def test_gradients_equal_brute_force(n, J_scale, h_scale):
    batch = random_batch(n, J_scale, h_scale, seed=100 + n)
    to_log_Z = torch.randn(2, 6, dtype=torch.float64)
    to_mean = torch.randn(2, 6, n, dtype=torch.float64)
    grads = []
    for engine in (True, False):
        h, upper = batch.h.clone().requires_grad_(), batch.J.triu(1).requires_grad_()
        J = upper.triu(1) + upper.triu(1).mT
        if engine:
            same = IsingBatch(h, J, batch.lengths, batch.beta)
            log_Z, mean = exact.log_partition(same), exact.mean_spins(same)
        else:
            log_Z, mean, _ = expectations(batch, h, J)
        grads.append(
            torch.autograd.grad((log_Z * to_log_Z).sum() + (mean * to_mean).sum(), (h, upper))
        )
    for engine, expected in zip(*grads, strict=True):
        assert (engine - expected).abs().max() < GRADIENT_TOLERANCE


@pytest.mark.parametrize("J_scale", [0.5, 20.0])
@pytest.mark.parametrize("n", [1, 4, 5])
def test_gradcheck(n, J_scale):
    batch = random_batch(n, J_scale, 2.0, seed=n, queries=3)
    beta = torch.tensor([0.6, 1.3], dtype=torch.float64, requires_grad=True)

    def function(h, upper, beta):
        J = upper.triu(1) + upper.triu(1).mT
        again = IsingBatch(h, J, batch.lengths, beta)
        return exact.log_partition(again), exact.mean_spins(again)

    h, upper = batch.h.clone().requires_grad_(), batch.J.triu(1).requires_grad_()
    assert torch.autograd.gradcheck(function, (h, upper, beta))


def test_gradient_of_an_entry_of_J_is_half_that_of_the_pair():
    batch = random_batch(4, 0.5, 1.0, seed=0)
    J = batch.J.clone().requires_grad_()
    exact.log_partition(IsingBatch(batch.h, J, batch.lengths)).sum().backward()
    pairs = expectations(IsingBatch(batch.h, batch.J, batch.lengths), batch.h, batch.J).pairs
    expected = pairs.sum(1) / 2
    expected.diagonal(dim1=-2, dim2=-1).zero_()
    torch.testing.assert_close(J.grad, expected)


def test_causal_lengths_of_many_sizes_share_one_call():
    torch.manual_seed(0)
    lengths = torch.arange(1, 13).repeat_interleave(40)
    h = torch.randn(4, len(lengths), 12, dtype=torch.float64)
    batch = IsingBatch(h, random_couplings(4, 12, 0.5, dtype=torch.float64), lengths)
    assert len(cut(lengths, 4, len(lengths), 12).blocks) > 1
    one_block = exact.mean_spins(batch)
    for length in (1, 6, 9, 12):
        q = slice(40 * length - 40, 40 * length)
        alone = IsingBatch(h[:, q, :length], batch.J[:, :length, :length])
        torch.testing.assert_close(exact.mean_spins(alone), one_block[:, q, :length])


def test_lengths_may_differ_between_groups_and_come_in_any_order():
    torch.manual_seed(1)
    lengths = torch.tensor([[3, 0, 7, 5], [7, 2, 1, 5]])
    h = torch.randn(2, 4, 7, dtype=torch.float64)
    batch = IsingBatch(h, random_couplings(2, 7, 1.0, dtype=torch.float64), lengths)
    expected = expectations(batch, batch.h, batch.J)
    torch.testing.assert_close(exact.mean_spins(batch), expected.mean)
    torch.testing.assert_close(exact.log_partition(batch), expected.log_Z)
    torch.testing.assert_close(exact.pair_correlations(batch), expected.pairs)


def test_log_space_fallback_is_used_where_products_underflow_and_only_there():
    # Fields of 500 against couplings of 500: the dominating state is far from u's and v's maxima.
    n = 6
    J = torch.zeros(1, n, n, dtype=torch.float64)
    J[0, 0, 3] = J[0, 3, 0] = -500.0
    h = torch.full((1, 2, n), 0.1, dtype=torch.float64)
    h[0, 0, [0, 3]] = 450.0
    batch = IsingBatch(h, J)
    from qattn.exact.dense.autograd import solve

    solution = solve(h, J, cut(None, 1, 2, n))
    assert (solution.scale == 0).tolist() == [[True, False]]
    expected = expectations(batch, h, J)
    torch.testing.assert_close(exact.mean_spins(batch), expected.mean)
    torch.testing.assert_close(exact.log_partition(batch), expected.log_Z)
    torch.testing.assert_close(exact.pair_correlations(batch), expected.pairs)
    reads = exact.sample(batch, 400, seed=0).spins
    assert set(map(tuple, reads[0, 0][:, [0, 3]].tolist())) == {(1, -1), (-1, 1)}


@settings(max_examples=25)
@given(st.integers(1, 7), st.integers(0, 10**6))
def test_gauge_flip_and_permutation(n, seed):
    batch = random_batch(n, 1.0, 2.0, seed=seed)
    full = IsingBatch(batch.h, batch.J, beta=0.7)
    gauge = (2 * torch.randint(0, 2, (n,)) - 1).double()
    flipped = IsingBatch(full.h * gauge, full.J * gauge * gauge[:, None], beta=0.7)
    torch.testing.assert_close(exact.mean_spins(flipped), exact.mean_spins(full) * gauge)
    order = torch.randperm(n)
    permuted = IsingBatch(full.h[..., order], full.J[:, order][:, :, order], beta=0.7)
    torch.testing.assert_close(exact.mean_spins(permuted), exact.mean_spins(full)[..., order])
    torch.testing.assert_close(exact.log_partition(permuted), exact.log_partition(full))


def test_closed_forms():
    h, J = 0.4, 0.8
    pair = torch.tensor([[[0.0, J], [J, 0.0]]], dtype=torch.float64)
    free = IsingBatch(torch.full((1, 1, 2), h, dtype=torch.float64), 0 * pair, beta=1.5)
    torch.testing.assert_close(exact.mean_spins(free), torch.tanh(1.5 * free.h))
    coupled = IsingBatch(torch.zeros(1, 1, 2, dtype=torch.float64), pair, beta=1.5)
    correlation = torch.tanh(torch.tensor(1.5 * J, dtype=torch.float64))
    torch.testing.assert_close(exact.pair_correlations(coupled)[0, 0, 0, 1], correlation)
    # Positive J is cooperative: a sign error would make this negative.
    assert correlation > 0


def test_log_prob_is_normalised_and_has_the_score_as_gradient():
    batch = random_batch(5, 0.8, 1.0, seed=7)
    full = IsingBatch(batch.h.requires_grad_(), batch.J, beta=0.7)
    from qattn.ising.states import states

    every = states(5, torch.int8, torch.device("cpu")).expand(2, 6, 32, 5)
    log_prob = exact.log_prob(full, every)
    torch.testing.assert_close(log_prob.exp().sum(-1), torch.ones(2, 6, dtype=torch.float64))
    (score,) = torch.autograd.grad(log_prob[..., 3].sum(), full.h)
    torch.testing.assert_close(score, 0.7 * (every[..., 3, :] - exact.mean_spins(full)))


def test_second_derivatives_are_refused():
    batch = random_batch(3, 0.5, 1.0, seed=0)
    h = batch.h.requires_grad_()
    mean = exact.mean_spins(IsingBatch(h, batch.J))
    (grad,) = torch.autograd.grad(mean.sum(), h, create_graph=True)
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        grad.sum().backward()


def test_autocast_does_not_lower_the_precision():
    batch = random_batch(6, 0.5, 1.0, seed=0, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = exact.mean_spins(batch)
    assert torch.equal(inside, exact.mean_spins(batch))


def competing_ground_states(seed):
    """Random couplings just beyond the float32 limit, and fields that make two states as likely."""
    torch.manual_seed(seed)
    J = random_couplings(1, 10, 1.0, dtype=torch.float64)
    J *= 1.05 * autograd.FLOAT32_COUPLING_LIMIT / J.triu(1).abs().sum()
    S = all_states(10)
    energies = ((S @ J[0]) * S).sum(-1) / 2
    first, second = S[energies.argmax()], S[energies.argsort()[-3]]  # the second turns all spins
    gap = energies.max() - ((second @ J[0]) @ second) / 2
    h = gap * (second - first) / ((second - first) ** 2).sum()
    return IsingBatch(h.float()[None, None], J.float())


@pytest.mark.parametrize("in_float64", [True, False])
def test_strong_couplings_are_computed_in_float64(in_float64, monkeypatch):
    batches = [competing_ground_states(seed) for seed in range(20)]
    if not in_float64:  # the control: float32 loses digits
        monkeypatch.setattr(autograd, "FLOAT32_COUPLING_LIMIT", 1e4)
    errors = []
    for batch in batches:
        expected = expectations(batch, batch.h, batch.J).mean
        errors.append((exact.mean_spins(batch) - expected).abs().max().item())
    assert (max(errors) < 2e-7) is in_float64, max(errors)
