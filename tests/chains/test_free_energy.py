"""Free energies from energies at many temperatures: against enumeration, and their error bars."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from qattn import IsingBatch, exact
from qattn.chains.free_energy import EnergyRecord, solve_mbar
from qattn.problems import spin_glass

SETS = 16


def exact_energies(batch, betas, sweeps, seed=0):
    """Energies and control variates of independent exact reads at each temperature."""
    h, J = batch.h[:, 0], batch.J
    energies, variates = [], []
    for k, beta in enumerate(betas.tolist()):
        at_beta = IsingBatch(beta * batch.h, beta * J)
        s = exact.sample(at_beta, sweeps * SETS, seed=1000 * seed + k).spins[:, 0].double()
        b = h[:, None] + s @ J
        energies.append(-(s * (b + h[:, None])).sum(-1) / 2)
        variates.append((b * (s - (beta * b).tanh())).sum(-1))
    shape = (sweeps, SETS)
    return (
        torch.stack(x, -1).unflatten(1, shape).permute(1, 0, 3, 2) for x in (energies, variates)
    )


def recorded(batch, betas, energies, variates):
    record = EnergyRecord(betas.expand(batch.num_groups, -1), SETS)
    for block in zip(energies.split(10), variates.split(10), strict=True):
        record.add(*block)
    return record.free_energy(torch.full((batch.num_groups,), batch.num_spins))


def glasses(problems, n, strength, seed=0):
    batch = spin_glass(problems, n, field_sd=0.3, seed=seed)
    return IsingBatch(strength * batch.h, strength * batch.J)


@pytest.mark.parametrize(("n", "strength", "temperatures"), [(1, 1, 2), (8, 1, 4), (14, 4, 12)])
def test_log_Z_of_every_temperature_is_that_of_enumeration(n, strength, temperatures):
    batch = glasses(5, n, strength)
    betas = torch.linspace(0, 1, temperatures, dtype=torch.float64)
    found = recorded(batch, betas, *exact_energies(batch, betas, 200))
    for k, beta in enumerate(betas.tolist()):
        right = exact.log_partition(IsingBatch(beta * batch.h, beta * batch.J))[:, 0]
        limit = stats.t.ppf(stats.norm.cdf(5), SETS - 1)
        assert (
            (found.log_Z[:, k] - right).abs() <= limit * found.standard_error[:, k] + 1e-4
        ).all()
    # Energies of the target from all temperatures together: its mean is -d ln Z / dβ.
    step = 1e-4
    up, down = (
        exact.log_partition(IsingBatch(b * batch.h, b * batch.J))[:, 0]
        for b in (1 + step, 1 - step)
    )
    mean = torch.stack([e @ p for e, p in zip(found.energies, found.probabilities, strict=True)])
    square = [e.square() @ p for e, p in zip(found.energies, found.probabilities, strict=True)]
    sd = (torch.stack(square) - mean.square()).clamp_min(0).sqrt()
    assert ((mean + (up - down) / (2 * step)).abs() <= 5 * sd / math.sqrt(200 * SETS) + 1e-3).all()


def test_energies_of_wrong_temperatures_are_seen():
    batch = glasses(5, 8, 1)
    betas = torch.linspace(0, 1, 4, dtype=torch.float64)
    too_hot = exact_energies(batch, 0.9 * betas, 400)
    found = recorded(batch, betas, *too_hot)
    error = found.log_Z[:, -1] - exact.log_partition(batch)[:, 0]
    assert (error.abs() > 10 * found.standard_error[:, -1]).all()


def test_error_bars_cover():
    """Errors over their standard errors are Student's t, of both sides."""
    problems = 600
    batch = glasses(problems, 6, 1.5)
    betas = torch.linspace(0, 1, 4, dtype=torch.float64)
    found = recorded(batch, betas, *exact_energies(batch, betas, 60))
    error = found.log_Z[:, -1] - exact.log_partition(batch)[:, 0]
    covered = float((error.abs() < found.half_width()[:, -1]).double().mean())
    assert abs(covered - 0.95) < 5 * math.sqrt(0.95 * 0.05 / problems)
    z = error / found.standard_error[:, -1]
    t = stats.t(SETS - 1)
    assert abs(float(z.mean())) < 5 * t.std() / math.sqrt(problems)
    fourth = float(t.stats(moments="k") + 3) * t.var() ** 2
    limit = 5 * math.sqrt((fourth - t.var() ** 2) / problems)
    assert abs(float(z.square().mean()) - t.var()) < limit
    # Bars too long, and too short, are seen.
    for wrong in (0.7, 1.4):
        assert abs(float((wrong * z).square().mean()) - t.var()) > limit


def test_the_control_variate_takes_noise_out_and_adds_no_bias():
    batch = glasses(40, 10, 1)
    betas = torch.linspace(0, 1, 5, dtype=torch.float64)
    energies, variates = exact_energies(batch, betas, 200)
    variance = variates.var((0, 3)) / (200 * SETS)
    assert (variates.mean((0, 3)).abs() < 5 * variance.sqrt()).all()
    with_it = recorded(batch, betas, energies, variates).standard_error[:, -1]
    without = recorded(batch, betas, energies, torch.zeros_like(variates)).standard_error[:, -1]
    # sd of 40 standard errors of 15 degrees of freedom each: 1/√(2·15·40) = 3%.
    assert float(with_it.square().mean() / without.square().mean()) < 0.5


def test_temperatures_that_do_not_overlap_have_no_solution():
    batch = glasses(2, 12, 40)
    betas = torch.tensor([0.0, 1.0], dtype=torch.float64)
    found = recorded(batch, betas, *exact_energies(batch, betas, 20))
    assert found.log_Z.isnan().all()


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.floats(-5, 5))
def test_an_offset_of_all_energies_shifts_log_Z(seed, offset):
    generator = torch.Generator().manual_seed(seed)
    energies = torch.randn(30, generator=generator, dtype=torch.float64)
    counts = torch.randint(1, 10, (2, 30), generator=generator).double()
    betas = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    samples, start = counts.sum(1) / 3, torch.zeros(2, 3, dtype=torch.float64)
    found = solve_mbar(counts, energies, betas, samples, start)
    shifted = solve_mbar(counts, energies + offset, betas, samples, start)
    assert torch.allclose(shifted, found - offset * betas, atol=1e-9)
    # The equations themselves, with the common factor that makes Z_0 = 1.
    weight = torch.exp(-energies[:, None] * betas)
    density = counts / (samples[:, None] * (weight / found.exp().unsqueeze(1)).sum(-1))
    assert torch.allclose((density.unsqueeze(1) @ weight).squeeze(1), found.exp(), rtol=1e-8)
