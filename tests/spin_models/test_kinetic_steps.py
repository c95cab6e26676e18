"""Mean-field steps of kinetic spins against closed forms, simulations and each other."""

import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qattn.spin_models import (
    NotConvergedWarning,
    binary,
    binary_mean_spin,
    kinetic_step,
    simulate,
)

KINDS = [(spins, order) for spins in ("vector", "binary") for order in ("naive", "tap")]


def aguilera(beta, n=512):
    """Fields uniform in ±β/2 and couplings β/n + 0.1 β z/√n."""
    generator = torch.Generator().manual_seed(0)
    x = beta / 2 * (2 * torch.randperm(n, generator=generator) + 1 - n) / n
    return x, beta / n + 0.1 * beta * torch.randn(n, n, generator=generator) / n**0.5


def theory(x, J, mean_field, num_steps):
    m = torch.ones(len(x), 1)
    for _ in range(num_steps):
        m = kinetic_step(x[:, None], J, m, spins="binary", mean_field=mean_field)
    return m[:, 0]


@pytest.mark.parametrize(("beta", "factor"), [(1.3, 0.5), (1.6, 0.5)])
def test_tap_is_nearer_to_simulated_spins_than_naive_mean_field(beta, factor):
    """Mean of 32 steps of 100 replicas, above the transition.

    All spins together fluctuate by some 0.06 and 0.05, which is remembered for three and two steps:
    a noise of 0.0025 and 0.001, where naive mean field is off by 0.020 and 0.006 and TAP by 0.003
    and 0.001 (benchmarks/kinetic_spins.py).
    """
    x, J = aguilera(beta)
    wanted = simulate(x, J, num_steps=64, num_replicas=100, seed=1)[32:].mean(0)
    naive, tap = (theory(x, J, order, 64) - wanted for order in ("naive", "tap"))
    assert tap.square().mean().sqrt() < factor * naive.square().mean().sqrt()


def test_the_transition_lies_near_1_11():
    # Below, all spins up dies out: a tenth of the replicas' fluctuations is 0.01.
    for beta, low, high in ((1.0, -0.05, 0.05), (1.2, 0.25, 0.5)):
        m = simulate(*aguilera(beta), num_steps=96, num_replicas=100, seed=1)[64:].mean()
        assert low < m < high
        tap = theory(*aguilera(beta), "tap", 300).mean()
        assert low < tap < high


def test_naive_mean_field_orders_too_early():
    # For n → ∞ it has its transition at 1.0997, and the model at 1.1108.
    for beta, ordered in ((1.05, False), (1.25, True)):
        m = theory(*aguilera(beta, 1024), "naive", 300)
        assert bool(m.mean() > 0.3) is ordered
    naive, tap = (theory(*aguilera(1.15, 1024), order, 300).mean() for order in ("naive", "tap"))
    assert naive > tap + 0.02


def test_one_step_of_tap_has_an_error_of_higher_order():
    """Spins of given means, one step: ⟨tanh θ⟩ over all 2^8 states is exact."""
    torch.manual_seed(0)
    m = 0.9 * torch.tanh(torch.randn(8, dtype=torch.float64))
    states = 2 * (torch.arange(256)[:, None] >> torch.arange(8) & 1).double() - 1
    probability = ((1 + states * m) / 2).prod(1)
    x, J = torch.randn(50, dtype=torch.float64), torch.randn(50, 8, dtype=torch.float64)
    errors = {}
    for size in (0.05, 0.1):
        exact = probability @ torch.tanh(x + states @ (size * J).mT)
        for order in ("naive", "tap"):
            step = kinetic_step(x[:, None], size * J, m[:, None], spins="binary", mean_field=order)
            errors[order, size] = float((step[:, 0] - exact).square().mean().sqrt())
    # Second and third order in the couplings.
    assert errors["naive", 0.1] / errors["naive", 0.05] == pytest.approx(4, rel=0.1)
    assert errors["tap", 0.1] / errors["tap", 0.05] == pytest.approx(8, rel=0.2)
    assert errors["tap", 0.1] < 0.2 * errors["naive", 0.1]


@given(st.floats(-1e4, 1e4), st.floats(0, 1e5), st.sampled_from([torch.float32, torch.float64]))
def test_the_tap_equation_is_solved_for_any_field_and_variance(theta, variance, dtype):
    theta, variance = torch.tensor([theta], dtype=dtype), torch.tensor([variance], dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        m = binary_mean_spin(theta, 1.0, variance)
    # In u = θ - mV: m is tanh u up to the rounding of u.
    slack = 20 * torch.finfo(dtype).eps * (1 + theta.abs() + variance)
    if m.abs() < 1 - 1e-6:
        assert (m.atanh() + variance * m - theta).abs() < 50 * slack
    assert m.abs() <= theta.abs().tanh()


def test_beta_and_gradients_of_the_tap_equation():
    torch.manual_seed(0)
    theta, variance = torch.randn(2, 4, 3, dtype=torch.float64)
    variance = variance.square()
    m = binary_mean_spin(theta, 1.7, variance)
    torch.testing.assert_close(m, torch.tanh(1.7 * theta - 1.7**2 * m * variance))
    assert torch.autograd.gradcheck(
        lambda t, v: binary_mean_spin(t, 1.7, v),
        (theta.requires_grad_(), variance.requires_grad_()),
    )
    torch.testing.assert_close(binary_mean_spin(theta, 1.7, 0 * variance), (1.7 * theta).tanh())


def test_an_unsolved_tap_equation_is_flagged(monkeypatch):
    monkeypatch.setattr(binary, "MAX_ITERATIONS", 1)
    with pytest.warns(NotConvergedWarning, match="of 1 of 2 spins has not converged, with a resid"):
        binary_mean_spin(torch.tensor([3.0, 0.0]), 1.0, torch.tensor([2.0, 2.0]))


@pytest.mark.parametrize(("spins", "mean_field"), KINDS)
def test_symmetries_of_a_step(spins, mean_field):
    torch.manual_seed(0)
    x, m = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    m = 0.1 * m
    J = torch.randn(3, 5, 5, dtype=torch.float64)

    def step(x, J, m, **options):
        return kinetic_step(x, J, m, spins=spins, mean_field=mean_field, **options)

    after = step(x, J, m)
    # All spins turned round; spins in another order; β in fields and couplings; a loop.
    torch.testing.assert_close(step(-x, J, -m), -after)
    order = torch.tensor([3, 0, 4, 1, 2])
    moved = step(x[:, order], J[:, order][:, :, order], m[:, order])
    torch.testing.assert_close(moved, after[:, order])
    torch.testing.assert_close(step(x[1], J[1], m[1]), after[1])
    # Gauge: spin 2 turned round, with its field and its couplings to others.
    sign = torch.ones(5, 1, dtype=torch.float64)
    sign[2] = -1
    torch.testing.assert_close(step(sign * x, sign * J * sign.mT, sign * m), sign * after)
    if spins == "binary":
        torch.testing.assert_close(step(x, J, m, beta=1.3), step(1.3 * x, 1.3 * J, m))
    if spins == "vector":
        rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
        torch.testing.assert_close(step(x @ rotation, J, m @ rotation), after @ rotation)


@pytest.mark.usefixtures("as_users_call")
def test_wrong_names_and_sizes_are_refused():
    x, J = torch.zeros(3, 4), torch.zeros(3, 3)
    with pytest.raises(ValueError, match="`spins` must be one of 'vector', 'binary', but is 'is"):
        kinetic_step(x, J, x, spins="ising")
    with pytest.raises(ValueError, match="`mean_field` must be one of 'naive', 'tap', but is 't"):
        kinetic_step(x, J, x, mean_field="tab")
    with pytest.raises(ValueError, match=r"must be more than 2, .* but is 2: take binary spins"):
        kinetic_step(x[:, :2], J, x[:, :2])
    with pytest.raises(ValueError, match="`num_replicas` must be positive, but is 0"):
        simulate(x[:, 0], J, num_steps=1, num_replicas=0, seed=0)


def test_simulated_spins_without_couplings_have_the_mean_of_their_field():
    x, J = torch.tensor([0.3, -1.0]), torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    m = simulate(x, J, num_steps=400, num_replicas=400, seed=0, beta=1.2)
    torch.testing.assert_close(m[:, 0], torch.full((400,), 0.36).tanh())
    # Spin 1 follows spin 0 one step later: 5 standard errors of the mean over all draws of spin 0.
    up, down = torch.tensor([0.0, -2.0]).mul(1.2).tanh()
    p = (1 + torch.tensor(0.36).tanh()) / 2
    sigma = float((up - down) * (p * (1 - p) / 400 / 399).sqrt())
    assert abs(float(m[1:, 1].mean() - (p * up + (1 - p) * down))) < 5 * sigma
