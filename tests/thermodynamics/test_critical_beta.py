"""Peaks of curves, their uncertainty, those of heads, and how they grow."""

import math

import pytest
import torch
from _support.brute_force import random_couplings

from qattn import IsingBatch
from qattn.couplings import Banded
from qattn.thermodynamics import (
    critical_beta,
    critical_betas_of_heads,
    peak_growth,
    softmax_curves,
    thermodynamic_curves,
)
from qattn.thermodynamics.critical import peaks


def gaussian_scores(samples, n, seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(samples, n, generator=generator, dtype=torch.float64)


def test_a_parabola_is_found_on_any_grid():
    x = torch.tensor([0.1, 0.5, 0.7, 1.6, 2.0], dtype=torch.float64)
    place, height, inside = peaks(x, torch.stack([3 - (x - 0.9) ** 2, x, -x]))
    assert place.tolist() == pytest.approx([0.9, 2.0, 0.1])
    assert height.tolist() == pytest.approx([3.0, 2.0, -0.1])
    assert inside.tolist() == [True, False, False]


@pytest.mark.parametrize("betas", [[0.1, 0.2, 0.3], [4.0, 5.0, 6.0]])
def test_a_curve_that_is_highest_at_an_end_has_no_peak(betas):
    found = critical_beta(softmax_curves(gaussian_scores(50, 12, 0), betas))
    assert found.at_edge
    assert math.isnan(found.value)
    assert math.isnan(found.standard_error)
    assert found.peak > 0


def test_scores_that_are_all_alike_have_no_peak():
    assert critical_beta(softmax_curves(torch.zeros(5, 4), [0.5, 1.0, 2.0])).at_edge


def test_peak_scales_with_the_scores():
    betas = torch.linspace(0.5, 5, 40, dtype=torch.float64)
    one = critical_beta(softmax_curves(gaussian_scores(50, 12, 0), betas))
    half = critical_beta(softmax_curves(gaussian_scores(50, 12, 0, 0.5), 2 * betas))
    assert half.value == pytest.approx(2 * one.value, rel=1e-9)
    assert half.peak == pytest.approx(one.peak, rel=1e-9)


def test_bootstrap_is_as_wide_as_repetitions_scatter():
    # The standard deviation over 60 repetitions is known to 9%; a bootstrap's error to some 15%.
    betas = torch.linspace(0.5, 4, 36, dtype=torch.float64)
    found = [critical_beta(softmax_curves(gaussian_scores(40, 12, s), betas)) for s in range(60)]
    scatter = torch.tensor([f.value for f in found]).std()
    typical = torch.tensor([f.standard_error for f in found]).mean()
    assert 0.6 < float(typical / scatter) < 1.6


def test_queries_of_one_spin_do_not_count():
    scores = torch.cat([gaussian_scores(20, 6, 0), torch.full((20, 6), -torch.inf).double()])
    scores[20:, 0] = 3.0
    betas = torch.linspace(0.5, 4, 20)
    mixed, alone = (critical_beta(softmax_curves(s, betas)) for s in (scores, scores[:20]))
    assert mixed == alone


def test_unknown_quantities_and_short_curves_are_refused():
    curves = softmax_curves(gaussian_scores(5, 4, 0), [0.5, 1.0])
    with pytest.raises(ValueError, match="must have three or more betas, but has 2"):
        critical_beta(curves)
    with pytest.raises(ValueError, match="must name a quantity of the curves, but is 'warmth'"):
        critical_beta(curves, "warmth")
    with pytest.raises(ValueError, match="must have a query of two or more spins"):
        critical_beta(softmax_curves(torch.zeros(3, 1), [0.5, 1.0, 2.0]))


def test_heads_of_softmax_attention_are_those_of_their_curves():
    scores = gaussian_scores(8 * 3 * 12, 12, 0).view(8, 3, 12, 12)
    scores[:, 1] *= 2
    causal = torch.ones(12, 12, dtype=torch.bool).tril()
    scores = scores.masked_fill(~causal, -torch.inf)
    found = critical_betas_of_heads(scores, num_queries=96)
    betas = torch.logspace(-0.9, 0.9, 60, dtype=torch.float64)
    for head in range(3):
        right = critical_beta(softmax_curves(scores[:, head].flatten(0, 1), betas))
        # The coarse grid is good to some percent.
        assert float(found[head]) == pytest.approx(right.value, rel=0.06)
    assert float(found[1] / found[0]) == pytest.approx(0.5, rel=0.3)


def attention_like(structure=False):
    generator = torch.Generator().manual_seed(0)
    h = 0.5 * torch.randn(2, 40, 8, generator=generator, dtype=torch.float64)
    J = random_couplings(2, 8, 1.0, generator=generator, dtype=torch.float64)
    J[1] *= 2
    if structure:
        return h, Banded(torch.randn(2, 8, 2, generator=generator, dtype=torch.float64))
    return h, J


@pytest.mark.parametrize("structure", [False, True])
def test_heads_of_boltzmann_attention_are_those_of_their_curves(structure):
    h, J = attention_like(structure)
    batch = IsingBatch(h, J, torch.arange(40) % 8 + 1, 0.7)
    found = critical_betas_of_heads(batch)
    curves = thermodynamic_curves(batch, torch.logspace(-0.9, 0.9, 60))
    for head in range(2):
        right = critical_beta(curves[head : head + 1], "cross_susceptibility")
        assert not right.at_edge
        assert float(found[head]) == pytest.approx(right.value, rel=0.06)


def test_sequences_with_couplings_of_their_own_are_of_their_heads():
    h, J = attention_like()
    both = critical_betas_of_heads(IsingBatch(h.repeat(3, 1, 1), J.repeat(3, 1, 1)), num_heads=2)
    torch.testing.assert_close(both, critical_betas_of_heads(IsingBatch(h, J)))


def test_subsets_of_queries_are_drawn_by_the_seed():
    scores = gaussian_scores(16 * 2 * 12, 12, 0).view(16, 2, 12, 12)
    few = [critical_betas_of_heads(scores, num_queries=10, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(few[0], few[1])
    assert not torch.equal(few[0], few[2])


def test_heads_without_a_peak_are_nan():
    h, J = attention_like()
    without = critical_betas_of_heads(IsingBatch(h, 0 * J))  # no couplings
    frozen = critical_betas_of_heads(IsingBatch(0 * h, J))  # no fields
    assert bool(torch.cat([without, frozen]).isnan().all())


def test_wrong_calls_of_heads_are_refused():
    h, J = attention_like()
    with pytest.raises(ValueError, match="`num_heads` must divide the 2 groups"):
        critical_betas_of_heads(IsingBatch(h, J), num_heads=3)
    for betas in ([1.0, 2.0], [0.0, 1.0, 2.0]):
        with pytest.raises(ValueError, match="must be three or more numbers above 0"):
            critical_betas_of_heads(IsingBatch(h, J), betas=betas)


def test_growth_is_refused_without_sizes_or_peaks():
    betas = torch.linspace(0.5, 4, 20)
    curves = [softmax_curves(gaussian_scores(20, n, 0), betas) for n in (6, 12)]
    growth = peak_growth(curves)
    assert growth.sizes == (6.0, 12.0)
    assert math.isnan(growth.standard_error)
    slope = math.log(growth.peaks[1].peak / growth.peaks[0].peak) / math.log(2)
    assert growth.exponent == pytest.approx(slope)
    with pytest.raises(ValueError, match="must be of two or more sizes"):
        peak_growth(curves[:1])
    with pytest.raises(ValueError, match="take more betas"):
        peak_growth([curves[0], softmax_curves(gaussian_scores(20, 12, 0), betas / 10)])
