"""Curves and peaks of systems that are solved in closed form, and how their peaks scale with n."""

import math

import pytest
import torch
from _support.closed_forms import (
    chain,
    curie_weiss,
    kaufman,
    random_energies,
    sherrington_kirkpatrick,
    torus,
)

from qattn.thermodynamics import (
    critical_beta,
    peak_growth,
    softmax_curves,
    thermodynamic_curves,
)


def test_chain():
    n, betas = 24, torch.tensor([0.3, 0.7, 1.2], dtype=torch.float64)
    curves = thermodynamic_curves(chain(n), betas, num_reads=0)
    t = betas.tanh()
    expected = {
        "log_Z": math.log(2) + (n - 1) * (2 * betas.cosh()).log(),
        "energy": -(n - 1) * t,
        "heat_capacity": betas**2 * (n - 1) / betas.cosh() ** 2,
    }
    for name, right in expected.items():
        torch.testing.assert_close(getattr(curves, name)[0, 0], right, rtol=1e-9, atol=1e-9)
    # ⟨s_j s_k⟩ = t^|j-k|, so χ_SG has t² where χ has t.
    torch.testing.assert_close(curves.spin_glass_susceptibility[0, 0], sum_of_powers(t**2, n))


def sum_of_powers(t, n):
    """(1/n) Σ_jk t^|j-k|."""
    return (1 + t) / (1 - t) - 2 * t * (1 - t**n) / (n * (1 - t) ** 2)


def test_susceptibility_of_a_long_chain_is_that_of_the_infinite_one():
    # In a field that is too weak to matter, so that χ is about ⟨m⟩ = 0, not ⟨|m|⟩.
    betas = torch.tensor([0.3, 0.7, 1.2], dtype=torch.float64)
    found = thermodynamic_curves(chain(24, 1e-9), betas, num_reads=0).susceptibility[0, 0]
    torch.testing.assert_close(found, betas * sum_of_powers(betas.tanh(), 24))
    infinite = betas * (2 * betas).exp()
    torch.testing.assert_close(betas * sum_of_powers(betas.tanh(), 10**9), infinite)


def test_curie_weiss_is_the_sum_over_its_magnetisations():
    n, betas = 64, torch.tensor([0.5, 1.0, 1.5], dtype=torch.float64)
    curves = thermodynamic_curves(curie_weiss(n), betas, num_reads=0)
    c = torch.arange(n + 1, dtype=torch.float64)
    m = 2 * c / n - 1
    log_states = math.lgamma(n + 1) - torch.lgamma(c + 1) - torch.lgamma(n - c + 1)
    exponents = log_states + betas[:, None] * (n * m**2 - 1) / 2
    p = exponents.softmax(1)
    expected = {
        "log_Z": exponents.logsumexp(1),
        "heat_capacity": betas**2 * ((p @ m**4) - (p @ m**2) ** 2) * n**2 / 4,
        "absolute_magnetisation": p @ m.abs(),
        "susceptibility": betas * n * (p @ m**2 - (p @ m.abs()) ** 2),
        "spin_glass_susceptibility": 1 + (n * (p @ m**2) - 1) ** 2 / (n - 1),
        "binder": 1 - (p @ m**4) / (3 * (p @ m**2) ** 2),
    }
    for name, right in expected.items():
        torch.testing.assert_close(getattr(curves, name)[0, 0], right, rtol=1e-8, atol=1e-8)


def test_curie_weiss_becomes_critical_at_one():
    # Peaks of χ near β = 1 + 1.24/√n (measured), of height n^(1/2); m n^(1/4) at β = 1 has the
    # density exp(-x⁴/12), whose Binder cumulant is 1 - Γ(1/4)²/(12 Γ(3/4)²) = 0.2705.
    curves, at_one = [], []
    for n in (64, 256, 1024):
        betas = 1 + torch.linspace(0.8, 1.8, 6) / n**0.5
        curves.append(thermodynamic_curves(curie_weiss(n), betas, num_reads=0))
        at_one.append(float(thermodynamic_curves(curie_weiss(n), [1.0], num_reads=0).binder))
    growth = peak_growth(curves, "susceptibility")
    assert 0.5 < growth.exponent < 0.55
    shifts = [(p.value - 1) * n**0.5 for p, n in zip(growth.peaks, growth.sizes, strict=True)]
    assert shifts == pytest.approx([1.21, 1.23, 1.24], abs=0.01)
    # Corrections fall as n^(-1/2).
    limit = 1 - (math.gamma(0.25) / math.gamma(0.75)) ** 2 / 12
    assert 2 * at_one[2] - at_one[1] == pytest.approx(limit, abs=1e-3)
    assert abs(at_one[2] - limit) > 5e-3  # and what is extrapolated is not there yet


def test_sherrington_kirkpatrick_at_high_temperature():
    # ln Z has mean n ln 2 + (n - 1)β²/4 - σ²/2 and variance σ² = -(ln(1 - β²) + β²)/2 as n grows
    # (Aizenman, Lebowitz and Ruelle, Commun. Math. Phys. 112, 3 (1987)); χ_SG is 1/(1 - β²), with
    # corrections of order 1/n that the extrapolation from n and 2n takes away.
    beta = 0.5
    chi, error = [], []
    for n, samples in ((7, 1000), (14, 250)):
        generator = torch.Generator().manual_seed(n)
        curves = thermodynamic_curves(sherrington_kirkpatrick(n, samples, generator), [beta])
        of_samples = curves.spin_glass_susceptibility.flatten()
        chi.append(float(of_samples.mean()))
        error.append(float(of_samples.std()) / samples**0.5)
    limit = 1 / (1 - beta**2)
    assert abs(2 * chi[1] - chi[0] - limit) < 5 * (4 * error[1] ** 2 + error[0] ** 2) ** 0.5 + 0.01
    assert abs(chi[0] - limit) > 5 * error[0]  # at n = 7 itself it is another
    rest = curves.log_Z.flatten() - 14 * math.log(2) - 13 * beta**2 / 4
    variance = -(math.log(1 - beta**2) + beta**2) / 2
    assert abs(float(rest.mean()) + variance / 2) < 5 * float(rest.std()) / 250**0.5


@pytest.mark.parametrize("L", [4, 6])
def test_lattice_against_kaufmans_solution(L):
    # L = 4 by enumeration, L = 6 by tree decomposition.
    betas = torch.linspace(0.36, 0.44, 5, dtype=torch.float64)
    curves = thermodynamic_curves(torus(L), betas, num_reads=0)
    log_Z, C = kaufman(L, betas)
    torch.testing.assert_close(curves.log_Z[0, 0], log_Z, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(curves.heat_capacity[0, 0], C, rtol=1e-8, atol=1e-8)


def test_peak_of_the_lattice_drifts_as_one_over_l_and_grows_as_a_logarithm():
    # Ferdinand and Fisher, Phys. Rev. 185, 832 (1969): C/n is highest at a temperature above T_c by
    # the part 0.360/L, and is 0.4945 ln L + 0.19 there; up to terms of order ln L/L.
    critical = math.log(1 + 2**0.5) / 2
    for L, betas in ((4, [0.36, 0.38, 0.40, 0.42, 0.44]), (6, [0.39, 0.40, 0.41, 0.42, 0.43])):
        curves = thermodynamic_curves(torus(L), betas, num_reads=0)
        peak = critical_beta(curves)
        fine = torch.linspace(0.35, 0.45, 1001, dtype=torch.float64)
        C = kaufman(L, fine)[1] / L**2
        assert peak.value == pytest.approx(float(fine[C.argmax()]), abs=5e-4)
        assert peak.peak == pytest.approx(float(C.max()), rel=1e-3)
        assert peak.value < critical
    heights, drifts = [], []
    for L in (16, 32, 64):
        fine = torch.linspace(0.42, 0.445, 2501, dtype=torch.float64)
        C = kaufman(L, fine)[1] / L**2
        heights.append(float(C.max()))
        drifts.append(L * (critical / float(fine[C.argmax()]) - 1))
    assert drifts[-1] == pytest.approx(0.360, abs=0.01)
    assert (heights[-1] - heights[-2]) / math.log(2) == pytest.approx(0.4945, abs=0.01)


def test_random_energies_against_the_integral_over_them():
    # 5 sigma of the mean over samples at each of five β, from free to frozen.
    n, samples = 256, 1000
    freezing = (2 * math.log(n)) ** 0.5
    betas = torch.tensor([0.1, 0.3, 0.6, 1.0, 2.0], dtype=torch.float64) * freezing
    scores = torch.randn(samples, n, generator=torch.Generator().manual_seed(0)).double()
    curves = softmax_curves(scores, betas)
    error = curves.log_Z.std(0) / samples**0.5
    expected = random_energies(n, betas.tolist())
    assert bool(((curves.log_Z.mean(0) - expected).abs() < 5 * error).all())
    wrong = random_energies(n, (1.2 * betas).tolist())
    assert not bool(((curves.log_Z.mean(0) - wrong).abs() < 5 * error).all())


def test_random_energy_model_freezes():
    # Well below β_f the entropy of n = 2^16 scores is that of infinitely many, up to the noise of
    # Z, whose relative variance is exp(β²)/n; far beyond β_f one score holds 1 - β_f/β of Σ p².
    n = 1 << 16
    freezing = (2 * math.log(n)) ** 0.5
    scores = torch.randn(20, n, generator=torch.Generator().manual_seed(1)).double()
    curves = softmax_curves(scores, [0.5, 1.0, 1.5, 2 * freezing])
    free = curves.betas[:3]
    entropy = math.log(n) - free**2 / 2
    noise = (1 + free**2) * (free**2).exp().sub(1).div(20 * n).sqrt()
    assert bool(((curves.entropy.mean(0)[:3] - entropy).abs() < 5 * noise).all())
    assert float(curves.participation[:, 3].max()) < 10
    assert 0.3 < float((1 / curves.participation[:, 3]).mean()) < 0.75


@pytest.mark.parametrize("n", [16, 1024])
def test_peak_of_random_energies(n):
    # C = β² ∂² E ln Z/∂β² of the integral, by differences. At such n the peak is at 0.7 to 0.9 of
    # β_f, which it reaches for ln n → ∞ only.
    freezing = (2 * math.log(n)) ** 0.5
    betas = freezing * torch.linspace(0.4, 1.6, 25, dtype=torch.float64)
    scores = torch.randn(300, n, generator=torch.Generator().manual_seed(2)).double()
    peak = critical_beta(softmax_curves(scores, betas))
    log_Z = random_energies(n, [0.975 * b for b in betas] + [*betas] + [1.025 * b for b in betas])
    low, middle, high = log_Z.unflatten(0, (3, 25))
    expected = (low - 2 * middle + high) / 0.025**2
    highest = int(expected.argmax())
    assert abs(peak.value - float(betas[highest])) < 5 * peak.standard_error + 0.05 * freezing
    assert peak.peak * n == pytest.approx(float(expected[highest]), rel=0.1)
    assert 0.6 * freezing < peak.value < freezing
