"""Occupations to a relative error of rounding, however small they are, and their gradients."""

import pytest
import torch
from _support.brute_force import all_states, random_couplings
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from qattn import IsingBatch, exact

TOLERANCE = 1e-5


def sigmoid(scores, normalize):
    return F.logsigmoid(scores).softmax(-1) if normalize else scores.sigmoid()


def engine(scores, normalize, J=None):
    n = scores.shape[-1]
    J = scores.new_zeros(1, n, n) if J is None else J
    return exact.occupations(IsingBatch(scores[None] / 2, J), normalize=normalize)[0]


def brute_force(scores, normalize, J):
    """Differences of log-sums over all states in float64: right however small a weight is."""
    n = scores.shape[-1]
    S = all_states(n)
    # Up to a constant of the query; in occupations, small derivatives keep their digits too.
    energies = scores.double() @ S.relu().mT + ((S @ J[0].double().triu(1)) * S).sum(-1)
    log_n = torch.stack([energies[:, S[:, j] > 0].logsumexp(-1) for j in range(n)], -1)
    return (log_n - (log_n if normalize else energies).logsumexp(-1, keepdim=True)).exp()


def errors(function, expected, scores, g, normalize, *more):
    """Largest relative errors of value and gradient against `expected` in float64.

    A gradient's is relative to what the weight could contribute, w(1 - w) max|g|, because sums of
    terms of both signs may vanish; of a small weight that is small too.
    """
    found, wanted = [], []
    for f, dtype, out in ((function, torch.float32, found), (expected, torch.float64, wanted)):
        x = scores.to(dtype).requires_grad_()
        w = f(x, normalize, *(J.to(dtype) for J in more))
        (grad,) = torch.autograd.grad(w, x, g.to(dtype))
        out += [w.detach().double(), grad.double()]
    value, grad = wanted
    # 1 - w as the reference has it; of normalised weights, of the sigmoid.
    spread = value * torch.sigmoid(-scores.double()) * g.abs().amax(-1, keepdim=True)
    return (
        ((found[0] - value) / value).abs().amax().item(),
        ((found[1] - grad) / spread).abs().amax().item(),
    )


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("n", [1, 5, 12])
def test_without_couplings_it_is_sigmoid(n, normalize, mixed):
    # A bucket of scores at a time, alone or beside others anywhere; float32 against float64.
    torch.manual_seed(n)
    for low in range(-80, 11, 5):
        scores = low + 5 * torch.rand(100, n)
        if mixed:
            scores[:, 1:] = -80 + 90 * torch.rand(100, n - 1)
        g = torch.randn(100, n)
        value, gradient = errors(engine, sigmoid, scores, g, normalize)
        pytorch_value, pytorch_gradient = errors(sigmoid, sigmoid, scores, g, normalize)
        assert value < max(TOLERANCE, 2 * pytorch_value), (low, value)
        assert gradient < max(TOLERANCE, 2 * pytorch_gradient), (low, gradient)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("J_scale", [0.1, 0.8])
def test_small_weights_with_couplings(J_scale, mixed, normalize):
    torch.manual_seed(0)
    n = 7
    J = random_couplings(1, n, J_scale)
    for low in (-80, -50, -25, -17, -5):
        scores = low + 5 * torch.rand(60, n)
        if mixed:
            scores[:, 1:] = -80 + 90 * torch.rand(60, n - 1)
        value, gradient = errors(engine, brute_force, scores, torch.randn(60, n), normalize, J)
        assert value < TOLERANCE, (low, value)
        assert gradient < TOLERANCE, (low, gradient)


def test_gradient_in_J_of_small_weights():
    torch.manual_seed(0)
    for low in (-40.0, -20.0):
        scores, g = low + torch.rand(50, 6), torch.rand(50, 6)
        upper = random_couplings(1, 6, 0.3).triu(1)
        grads = []
        for f, dtype in ((engine, torch.float32), (brute_force, torch.float64)):
            J = upper.to(dtype).requires_grad_()
            w = f(scores.to(dtype), False, J.triu(1) + J.triu(1).mT)
            grads.append(torch.autograd.grad(w, J, g.to(dtype))[0].double())
        assert ((grads[0] - grads[1]).abs() <= TOLERANCE * grads[1].abs()).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("level", [-95.0, -800.0, -5000.0])
def test_normalised_rows_of_weights_too_small_for_a_float(level, dtype):
    torch.manual_seed(0)
    scores = level + torch.rand(10, 5, dtype=dtype)
    scores[0] += 3 * abs(level) / 2  # one ordinary row beside them
    J, g = random_couplings(1, 5, 0.4).to(dtype), torch.randn(10, 5, dtype=dtype)
    results = []
    for f, to in ((engine, dtype), (brute_force, torch.float64)):
        x, upper = scores.to(to).requires_grad_(), J.to(to).triu(1).requires_grad_()
        w = f(x, True, upper.triu(1) + upper.triu(1).mT)
        results.append((w, *torch.autograd.grad(w, (x, upper), g.to(to))))
    for found, wanted in zip(*results, strict=True):
        assert found.isfinite().all()
        torch.testing.assert_close(found.double(), wanted, rtol=TOLERANCE, atol=TOLERANCE)
    torch.testing.assert_close(results[0][0].sum(-1), torch.ones(10, dtype=dtype))


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("level", [0.0, -30.0, -2000.0])
def test_gradcheck(level, normalize):
    torch.manual_seed(1)
    lengths = torch.tensor([5, 3, 4, 0])
    beta = torch.tensor([0.6, 1.3], dtype=torch.float64, requires_grad=True)
    h = (torch.randn(2, 4, 5, dtype=torch.float64) + level).requires_grad_()
    upper = random_couplings(2, 5, 0.7, dtype=torch.float64).triu(1).requires_grad_()

    def function(h, upper, beta):
        J = upper.triu(1) + upper.triu(1).mT
        return exact.occupations(IsingBatch(h, J, lengths, beta), normalize=normalize)

    assert torch.autograd.gradcheck(function, (h, upper, beta))


@settings(max_examples=25)
@given(st.integers(1, 7), st.floats(-60, 60), st.integers(0, 10**6))
def test_invariants(n, level, seed):
    torch.manual_seed(seed)
    h = level + 2 * torch.randn(1, 4, n, dtype=torch.float64)
    J = random_couplings(1, n, 0.6, dtype=torch.float64)
    up = exact.occupations(IsingBatch(h, J))
    assert ((up > 0) & (up <= 1 + 1e-12)).all()
    # Turning all spins makes occupied empty, and no order of spins is special.
    torch.testing.assert_close(exact.occupations(IsingBatch(-h, J)), 1 - up)
    order = torch.randperm(n)
    turned = exact.occupations(IsingBatch(h[..., order], J[:, order][:, :, order]))
    torch.testing.assert_close(turned, up[..., order], rtol=1e-10, atol=0)
    share = exact.occupations(IsingBatch(h, J), normalize=True)
    torch.testing.assert_close(share, up / up.sum(-1, keepdim=True), rtol=1e-10, atol=0)
    torch.testing.assert_close(exact.mean_spins(IsingBatch(h, J)), 2 * up - 1)


def test_a_query_without_spins_has_zeros_and_no_gradient():
    h = torch.randn(1, 2, 3, requires_grad=True)
    batch = IsingBatch(h, random_couplings(1, 3, 0.5), torch.tensor([0, 2]))
    for normalize in (False, True):
        n = exact.occupations(batch, normalize=normalize)
        assert (n[0, 0] == 0).all()
        assert n[0, 1, 2] == 0
        (grad,) = torch.autograd.grad(n[..., 0].sum(), h)
        assert (grad[0, 0] == 0).all()
        assert (grad[0, 1, :2] != 0).all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("normalize", [False, True])
def test_what_is_not_finite_stays_in_its_query(value, normalize):
    torch.manual_seed(0)
    h, J = torch.randn(2, 4, 5), random_couplings(2, 5, 0.5)
    lengths = torch.tensor([5, 4, 5, 3])
    expected = exact.occupations(IsingBatch(h, J, lengths), normalize=normalize)
    broken = h.clone()
    broken[1, 2, 3] = value
    x = broken.requires_grad_()
    batch = IsingBatch(x, J, lengths, validate=False)
    found = exact.occupations(batch, normalize=normalize)
    assert found[1, 2].isnan().all()
    others = torch.ones(2, 4, dtype=torch.bool)
    others[1, 2] = False
    torch.testing.assert_close(found[others], expected[others])
    (grad,) = torch.autograd.grad(found[others].sum(), x)
    assert grad[others].isfinite().all()
    assert exact.mean_spins(batch)[1, 2].isnan().all()
    assert exact.log_partition(batch)[others].isfinite().all()
    assert exact.log_partition(batch)[1, 2].isnan()
    with pytest.raises(ValueError, match="Argument `h` must be finite"):
        exact.sample(batch, 3)
