"""Weighted reads of a known q give p's averages, ln Z and P(q), as often as errors promise."""

import pytest
import torch
from scipy import stats

from qattn import IsingBatch
from qattn.thermodynamics import (
    QUANTITIES,
    curves_of_reads,
    overlap_distribution,
    overlaps_of_reads,
    thermodynamic_curves,
)
from qattn.thermodynamics.curves.jackknife import BLOCKS

REPETITIONS, READS = 100, 20 * BLOCKS
BETAS = [0.4, 0.9]
INSIDE = stats.t.ppf(0.975, BLOCKS - 1)
"""Standard errors from BLOCKS blocks within which 95 of 100 estimates are."""


def repeated(repetitions):
    """The same glass of six spins many times over."""
    generator = torch.Generator().manual_seed(3)
    J = torch.randn(1, 6, 6, generator=generator, dtype=torch.float64).triu(1) / 6**0.5
    h = 0.3 * torch.randn(1, 1, 6, generator=generator, dtype=torch.float64)
    return IsingBatch(h.repeat(1, repetitions, 1), J + J.mT)


@pytest.fixture(scope="module")
def biased_coins():
    """Reads of spins that are up with probability 0.6, and ln w of each at every β."""
    batch = repeated(REPETITIONS)
    generator = torch.Generator().manual_seed(0)
    shape = (len(BETAS), 1, REPETITIONS, READS, 6)
    up = torch.rand(shape, generator=generator) < 0.6
    spins = torch.where(up, 1, -1).to(torch.int8)
    log_q = torch.where(up, 0.6, 0.4).double().log().sum(-1)
    energies = torch.stack([batch.energies(s) for s in spins])
    log_w = -torch.tensor(BETAS).double()[:, None, None, None] * energies - log_q
    return batch, spins, log_w


@pytest.mark.parametrize("weighted", [True, False])
def test_curves_lie_within_error_bars_in_95_of_100_repetitions(biased_coins, weighted):
    # Binomial: 95 ± 2.2; at 5 sigma each is 84 or more. Without weights, the negative control,
    # few are.
    batch, spins, log_w = biased_coins
    right = thermodynamic_curves(repeated(1), BETAS)
    if not weighted:
        log_w = log_w.logsumexp(-1, keepdim=True).expand_as(log_w) - torch.tensor(READS).log()
    curves = curves_of_reads(batch, BETAS, spins, log_w)
    inside = {
        name: (
            ((getattr(curves, name) - getattr(right, name)) / curves.errors[name]).abs() < INSIDE
        ).sum((0, 1))
        for name in QUANTITIES
    }
    if not weighted:
        assert int(inside["energy"].max()) < 20
        return
    assert min(int(counts.min()) for counts in inside.values()) >= 84, inside


@pytest.mark.parametrize("weighted", [True, False])
def test_overlaps_of_weighted_reads(biased_coins, weighted):
    batch, spins, log_w = biased_coins
    right = overlap_distribution(repeated(1), beta=BETAS[1]).probabilities
    weights = log_w[1].softmax(-1) if weighted else torch.ones_like(log_w[1])
    found = overlaps_of_reads(spins[1], weights, batch.num_active)
    # Mean over independent repetitions, with the standard error of their spread.
    z = (found.probabilities.mean(1) - right[:, 0]) / found.probabilities.std(1)
    z = z * REPETITIONS**0.5
    assert bool((z.abs() < 5).all()) is weighted
    if weighted:
        # Few pairs are alike in all spins: their number is skewed, and bars hold less often there.
        inside = ((found.probabilities - right).abs() < INSIDE * found.errors).sum((0, 1))
        assert 88 < float(inside.double().mean()) <= 99


def test_what_does_not_fit_is_refused():
    batch, spins = repeated(1), torch.ones(1, 1, 1, 24, 6, dtype=torch.int8)
    with pytest.raises(ValueError, match="multiple of 23 reads, but holds 24"):
        curves_of_reads(batch, [1.0], spins, torch.zeros(1, 1, 1, 24))
    with pytest.raises(ValueError, match="must have shapes"):
        curves_of_reads(batch, [1.0, 2.0], spins[:, :, :, :23], torch.zeros(1, 1, 1, 23))
