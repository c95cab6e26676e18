"""The free energy of vector spins by steepest descent, against closed forms."""

import math

import pytest
import torch
from scipy.special import ive

from qattn.spin_models import spherical_free_energy, vector_mean_spin


def random_model(n=5, D=3):
    torch.manual_seed(0)
    h = torch.randn(4, n, D, dtype=torch.float64)
    J = torch.randn(4, n, n, dtype=torch.float64).triu(1)
    return h, J + J.mT


def bessel(D, k):
    """ln of the integral of exp(k cos) over the unit sphere, divided by its area."""
    nu = D / 2 - 1
    return math.lgamma(D / 2) + nu * math.log(2 / k) + math.log(ive(nu, k)) + k


def test_the_saddle_is_stationary_and_gives_the_magnetisations():
    h, J = (a.requires_grad_() for a in random_model())
    beta, R2 = torch.tensor(0.7, dtype=torch.float64, requires_grad=True), 1.5
    found = spherical_free_energy(h, J, beta, squared_radius=R2)
    assert found.converged.all()
    # ∂lnZ/∂t = 0 says that ⟨s²⟩ = R²: D/(2β) of the fluctuations, and the magnetisation's square.
    V = torch.diag_embed(found.multipliers) - J / 2
    inverse = torch.linalg.inv(V)
    squares = 3 / (2 * beta) * inverse.diagonal(dim1=1, dim2=2)
    squares = squares + found.magnetisations.square().sum(2)
    torch.testing.assert_close(squares, torch.full_like(squares, R2))
    assert (torch.linalg.eigvalsh(V) > 0).all()
    grads = torch.autograd.grad(found.log_Z.sum(), (h, J, beta))
    torch.testing.assert_close(grads[0], beta * found.magnetisations)
    # ⟨s_i·s_j⟩ is the same sum off the diagonal; J_ij and J_ji are one coupling.
    pairs = 3 / (2 * beta) * inverse + found.magnetisations @ found.magnetisations.mT
    off = ~torch.eye(5, dtype=torch.bool)
    torch.testing.assert_close((grads[1] + grads[1].mT)[:, off], beta * pairs[:, off])
    energy = -(h * found.magnetisations).sum() - (J * pairs).sum() / 2
    torch.testing.assert_close(grads[2], -energy)


def test_gradients_at_the_saddle_are_those_of_log_z():
    h, J = random_model(3, 2)
    weights = torch.tensor([[0.0, 1.0, 0.5], [1.0, 0.0, 0.2], [0.5, 0.2, 0.0]], dtype=torch.float64)

    def log_Z(h, size):
        return spherical_free_energy(h, size * weights.expand(4, 3, 3), 0.8).log_Z

    size = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(log_Z, (h.requires_grad_(), size))


def test_the_formula_for_one_component():
    """As Bal has it: D = R = 1, and V = diag(t) - J with every pair counted twice."""
    h, J = random_model(D=1)
    found = spherical_free_energy(h, J, 1.3)
    V = torch.diag_embed(found.multipliers) - J / 2
    log_Z = -5 / 2 * (1 + math.log(2 * 1.3)) + 1.3 * found.multipliers.sum(1)
    log_Z += -torch.logdet(V) / 2 + 1.3 / 4 * (h.mT @ torch.linalg.solve(V, h))[:, 0, 0]
    torch.testing.assert_close(found.log_Z, log_Z)


@pytest.mark.parametrize("size", [0.1, 1.0, 5.0])
def test_one_and_two_spins_of_many_components(size):
    """Exact log Z are Bessel functions; per component the error falls as 1/D."""
    errors = []
    for D in (100, 400):
        h = torch.zeros(1, 1, D, dtype=torch.float64)
        h[..., 0] = size * D**0.5
        zero = torch.zeros(1, 1, 1, dtype=torch.float64)
        one = spherical_free_energy(h, zero, squared_radius=float(D))
        pair = size * (1 - torch.eye(2, dtype=torch.float64))[None]
        two = spherical_free_energy(0 * h.expand(1, 2, D), pair, squared_radius=float(D))
        # A spin in a field, and one in the field of another, have the same integral.
        wanted = bessel(D, size * D) / D
        errors.append([abs(float(found.log_Z) / D - wanted) for found in (one, two)])
    assert errors[0][0] == pytest.approx(errors[0][1], rel=1e-6, abs=1e-12)
    assert errors[0][0] < 0.01
    assert errors[1][0] < 0.3 * errors[0][0]


def test_one_spin_has_the_mean_of_vector_spins():
    """φ has R² = D/2 - 1, the saddle is for D = 2R²: two components that are 0 make them one."""
    theta = torch.tensor([[[0.3, -1.0, 0.5, 0.8, 0.0, 0.0]]], dtype=torch.float64)
    zero = torch.zeros(1, 1, 1, dtype=torch.float64)
    found = spherical_free_energy(theta[..., :4], zero, squared_radius=2.0)
    torch.testing.assert_close(found.magnetisations, vector_mean_spin(theta)[..., :4])


def test_strong_couplings_converge_and_wrong_arguments_are_refused():
    h, J = random_model()
    for size in (0.0, 1.0, 100.0):
        found = spherical_free_energy(h, size * J, 5.0)
        assert found.converged.all()
        assert found.log_Z.isfinite().all()
    with pytest.raises(ValueError, match="must be positive, but are 0"):
        spherical_free_energy(h, J, 0.0)
    with pytest.raises(ValueError, match="`J` must be symmetric"):
        spherical_free_energy(h, J.triu(1))
