"""The spherical model against integrals over spheres, its stationarity and its gradients."""

import math

import pytest
import torch
from scipy.special import gammaln, ive

from qattn.thermodynamics import spherical_model


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def log_mean_exp(kappa, D):
    """ln ⟨exp(κ cos θ)⟩ over the sphere of D dimensions: a modified Bessel function."""
    v = D / 2 - 1
    return gammaln(D / 2) + v * math.log(2 / kappa) + math.log(ive(v, kappa)) + kappa


@pytest.mark.parametrize("beta", [0.3, 1.0, 3.0])
def test_closed_forms_of_one_and_two_spins_to_order_one_over_d(beta):
    """A spin in a field of length √D, and two coupled spins: the error falls as 1/D, to 10%."""
    zero = torch.zeros(1, 1, 1, dtype=torch.float64)
    pair = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]], dtype=torch.float64)
    for h, J in ((1.0, zero), (0.0, pair)):
        errors = []
        for D in (256, 1024):
            fields = torch.full((1, J.shape[1], D), h, dtype=torch.float64)
            found = float(spherical_model(fields, J, beta).log_Z) / D
            errors.append(found - log_mean_exp(beta * D, D) / D)
        assert abs(errors[0]) < 0.01
        assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)


def test_against_integration_over_spheres_by_monte_carlo():
    """Three coupled spins in fields, 200,000 points: ln Z and ⟨s⟩ to 1/D and 5 standard errors.

    The fields are weak enough for uniform points: weights have a coefficient of variation near 1.
    """
    J = torch.tensor([[0.0, 0.2, -0.1], [0.2, 0.0, 0.15], [-0.1, 0.15, 0.0]], dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    for D in (4, 8):
        h = 0.25 * normal(3, D)
        points = torch.randn(200_000, 3, D, generator=generator, dtype=torch.float64)
        s = math.sqrt(D) * torch.nn.functional.normalize(points, dim=-1)
        weights = ((s * h).sum((1, 2)) + (s * (J @ s)).sum((1, 2)) / 2).exp()
        error = 5 * float(weights.std() / weights.mean()) / len(weights) ** 0.5
        found = spherical_model(h[None], J[None])
        # Of relative order 1/D.
        log_Z = float(found.log_Z)
        assert abs(log_Z - float(weights.mean().log())) < error + 0.35 * log_Z / D
        mean = (weights[:, None, None] * s).mean(0) / weights.mean()
        assert (found.mean[0] - mean).abs().max() < 5 * 1.5 * 200_000**-0.5 + 0.3 / D
        assert (found.mean[0] + mean).abs().max() > 0.3  # control: fields turned round


def test_constraints_hold_at_the_saddle_point():
    """⟨s_i²⟩/D = ½(V⁻¹)_ii + m_i²/D = 1, at weak and strong couplings and fields."""
    for strength in (0.01, 1.0, 30.0):
        h, J = strength * normal(4, 6, 5), strength * normal(4, 6, 6, seed=1)
        found = spherical_model(h, J)
        V = torch.diag_embed(found.t) - (J + J.mT) / 4
        assert (torch.linalg.eigvalsh(V) > 0).all()
        squares = V.inverse().diagonal(dim1=1, dim2=2) / 2 + found.mean.square().sum(-1) / 5
        assert (squares - 1).abs().max() < 1e-10
        # It is a minimum: the bracket is larger at other t.
        other = found.t * 1.01
        bracket = [
            t.sum(-1)
            - torch.logdet(torch.diag_embed(t) - (J + J.mT) / 4) / 2
            + (h * torch.linalg.solve(torch.diag_embed(t) - (J + J.mT) / 4, h)).sum((1, 2)) / 20
            for t in (found.t, other)
        ]
        assert (bracket[1] > bracket[0]).all()


def test_gradients():
    h, J = normal(2, 3, 4).requires_grad_(), normal(2, 3, 3, seed=1).requires_grad_()
    beta = torch.tensor([0.7, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *x: spherical_model(*x), (h, J, beta))
    found = spherical_model(h, J, beta)
    (gradient,) = torch.autograd.grad(found.log_Z.sum(), h)
    assert (gradient / beta[:, None, None] - found.mean).abs().max() < 1e-12


def test_symmetries_and_limits():
    h, J = normal(1, 4, 3), normal(1, 4, 4, seed=1)
    found = spherical_model(h, J, 1.3)
    # A diagonal is a constant, and of J only the symmetric part counts.
    diagonal = torch.tensor([0.5, -1.0, 0.2, 3.0], dtype=torch.float64)
    moved = spherical_model(h, (J + J.mT) / 2 + torch.diag(diagonal), 1.3)
    assert (moved.mean - found.mean).abs().max() < 1e-10
    shift = float((moved.log_Z - found.log_Z).detach())
    assert shift == pytest.approx(3 * 1.3 * float(diagonal.sum()) / 2)
    # Rotations of all spins together.
    Q = torch.linalg.qr(normal(3, 3, seed=2)).Q
    turned = spherical_model(h @ Q, J, 1.3)
    assert (turned.mean - found.mean @ Q).abs().max() < 1e-10
    # Spins of another length are those of length √D in other units.
    long = spherical_model(h, J, 1.3, squared_radius=12.0)
    same = spherical_model(2 * h, 4 * J, 1.3)
    assert (long.mean - 2 * same.mean).abs().max() < 1e-10
    assert (long.log_Z - same.log_Z).abs().max() < 1e-10
    # Free spins: Z = 1; a strong field aligns to length √D.
    assert spherical_model(h, J, 0.0).log_Z.abs().max() < 1e-12
    cold = spherical_model(h, 0 * J, 1e6).mean.norm(dim=-1)
    assert (cold - math.sqrt(3)).abs().max() < 1e-5
    # Single precision is computed in double.
    single = spherical_model(h.float(), J.float(), 1.3)
    assert single.log_Z.dtype == torch.float32
    assert (single.mean - found.mean).abs().max() < 1e-6


@pytest.mark.usefixtures("as_users_call")
def test_arguments_out_of_range():
    h, J = normal(1, 4, 3), normal(1, 4, 4, seed=1)
    with pytest.raises(ValueError, match="`h` and `J` must have shapes"):
        spherical_model(h, J[:, :3, :3])
    with pytest.raises(ValueError, match="`beta` must be finite and not negative"):
        spherical_model(h, J, -1.0)
    with pytest.raises(ValueError, match="`squared_radius` must be positive and finite, but is 0"):
        spherical_model(h, J, squared_radius=0.0)
    with pytest.raises(ArithmeticError, match="lower β"):
        spherical_model(h, J, 1e12)
