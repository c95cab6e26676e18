"""Steady states: the fixed point, its implicit gradient, vmap, and what is said without one."""

import pytest
import torch

from qattn.spin_models import NotConvergedWarning, kinetic_step, steady_state

KINDS = [(spins, order) for spins in ("vector", "binary") for order in ("naive", "tap")]
TIGHT = {"tolerance": 1e-13, "max_iterations": 5000}


def system(batch, n=4, D=3):
    torch.manual_seed(0)
    x = torch.randn(batch, n, D, dtype=torch.float64)
    J = torch.randn(batch, n, n, dtype=torch.float64)
    return x, J.masked_fill(torch.ones(n, n).triu(1).bool(), -torch.inf).softmax(-1)


@pytest.mark.parametrize(("spins", "mean_field"), KINDS)
def test_a_step_changes_nothing_and_gradients_are_those_of_the_fixed_point(spins, mean_field):
    x, J = system(2)
    model = {"spins": spins, "mean_field": mean_field, "beta": 0.9}
    m = steady_state(x, J, **model, **TIGHT)
    torch.testing.assert_close(kinetic_step(x, J, m, **model), m, atol=1e-12, rtol=0)
    inputs = (x[:1, :3].requires_grad_(), J[:1, :3, :3].requires_grad_())
    assert torch.autograd.gradcheck(lambda *a: steady_state(*a, **model, **TIGHT), inputs)


def test_the_implicit_gradient_is_that_through_many_steps():
    x, J = (a.requires_grad_() for a in system(2))
    m = steady_state(x, J, **TIGHT)
    (wanted,) = torch.autograd.grad((m**2).sum(), x)
    m = torch.zeros_like(x)
    for _ in range(60):
        m = kinetic_step(x, J, m)
    (found,) = torch.autograd.grad((m**2).sum(), x)
    torch.testing.assert_close(found, wanted)
    (early,) = torch.autograd.grad((kinetic_step(x, J, 0 * x) ** 2).sum(), x)
    assert (early - wanted).abs().max() > 0.01


@pytest.mark.parametrize(("spins", "mean_field"), KINDS)
def test_vmap_of_values_and_gradients_is_a_loop(spins, mean_field):
    x, J = system(6)
    x, J = x.view(3, 2, 4, 3), J.view(3, 2, 4, 4)

    def loss(x, J):
        return (steady_state(x, J, spins=spins, mean_field=mean_field, tolerance=1e-10) ** 2).sum()

    values, grads = torch.func.vmap(torch.func.grad_and_value(loss, argnums=(0, 1)))(x, J)[::-1]
    for i in range(3):
        wanted, value = torch.func.grad_and_value(loss, argnums=(0, 1))(x[i], J[i])
        torch.testing.assert_close(values[i], value)
        torch.testing.assert_close(tuple(g[i] for g in grads), wanted, atol=1e-8, rtol=1e-6)
    shared = torch.func.vmap(loss, (None, 0))(x[0], J)
    torch.testing.assert_close(shared[2], loss(x[0], J[2]))


def test_couplings_without_batch_are_shared():
    x, J = system(3)
    m = steady_state(x, J[0])
    torch.testing.assert_close(m[2], steady_state(x[2], J[0]))
    assert steady_state(x.view(3, 1, 4, 3), J[None]).shape == (3, 3, 4, 3)


def test_systems_that_do_not_converge_are_flagged_and_kept():
    # A spin against its own past: θ = -3 m turns round at each step.
    x = torch.tensor([0.1, 0.2])[:, None, None]
    J = torch.tensor([-3.0, 0.5])[:, None, None].requires_grad_()
    with pytest.warns(NotConvergedWarning, match=r"state of 1 of 2 systems .* 50 steps .* 2\.0e"):
        m = steady_state(x, J, spins="binary", max_iterations=50)
    torch.testing.assert_close(m[1], torch.tanh(0.2 + 0.5 * m[1]))
    # From all at 0 the state is there at once; its gradient, of slope 1, is a growing sum.
    J = torch.ones(1, 1, 1, requires_grad=True)
    m = steady_state(torch.zeros(1, 1, 1), J, spins="binary", max_iterations=20)
    with pytest.warns(NotConvergedWarning, match="gradient in the steady state of 1 of 1 systems"):
        m.sum().backward()


def test_nan_stays_in_its_system():
    x, J = system(2)
    x[0, 1] = torch.nan
    m = steady_state(x, J)
    assert m[0, 1:].isnan().all()
    torch.testing.assert_close(m[1], steady_state(x[1], J[1]))


@pytest.mark.usefixtures("as_users_call")
def test_wrong_arguments_are_refused():
    x, J = system(1)
    with pytest.raises(ValueError, match="`tolerance` must be positive, but is 0"):
        steady_state(x, J, tolerance=0.0)
    with pytest.raises(ValueError, match="`max_iterations` must be positive, but is -1"):
        steady_state(x, J, max_iterations=-1)
    with pytest.raises(ValueError, match="`spins` must be one of"):
        steady_state(x, J, spins="potts")
    x.requires_grad_()
    (g,) = torch.autograd.grad(steady_state(x, J).sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="A steady state has first derivatives only"):
        g.sum().backward()
