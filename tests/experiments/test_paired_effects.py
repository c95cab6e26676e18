"""Paired effects: intervals, p, effect sizes, their invariances, and seeds that all agree."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from qattn.experiments.statistics import PairedEffect, detectable, holm, power, seeds_needed
from qattn.experiments.statistics.paired import bootstrap_mean

EFFECTS = [0.11, 0.15, 0.08, 0.13, -0.02, 0.17, 0.12, 0.09, 0.14, 0.10]

vectors = st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=2, max_size=12).filter(
    lambda values: len(set(values)) > 1
)


def within_five_sigma(count, of, probability):
    """Whether a number of events is within 5 standard errors of what its probability says."""
    return abs(count / of - probability) <= 5 * math.sqrt(probability * (1 - probability) / of)


def test_agrees_with_scipys_t_test():
    effect = PairedEffect(EFFECTS)
    reference = stats.ttest_1samp(EFFECTS, 0.0)
    assert effect.p == pytest.approx(reference.pvalue, rel=1e-9)
    interval = reference.confidence_interval(0.95)
    assert effect.interval == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert effect.size == pytest.approx(np.mean(EFFECTS) / np.std(EFFECTS, ddof=1))
    assert effect.p == effect.p_above < effect.p_below == 1.0


def test_margin_shifts_the_comparison_and_not_the_interval():
    effect, shifted = PairedEffect(EFFECTS), PairedEffect(EFFECTS, null=-0.2)
    assert shifted.interval == effect.interval
    reference = stats.ttest_1samp(EFFECTS, -0.2)
    assert shifted.p == pytest.approx(reference.pvalue, rel=1e-6)


def test_irrelevance_is_a_test_of_the_effect_size():
    small = PairedEffect([-1.1, 0.4, -0.9, 0.3, -1.2, 0.2, -0.8, -0.5, 0.1, -0.7])
    t = small.size * math.sqrt(10)
    assert small.p_irrelevant == pytest.approx(
        2 * stats.nct.cdf(t, 9, 0.25 * math.sqrt(10)), rel=1e-9
    )
    assert small.p_irrelevant < small.p_below
    none = PairedEffect(small.values, relevant=0.0)
    assert none.p_irrelevant == pytest.approx(none.p_below, rel=1e-9)


@pytest.mark.parametrize("seeds", [100, 200, 500])
def test_irrelevance_of_many_seeds(seeds):
    """SciPy's noncentral t is nan in the far tail of many degrees of freedom."""
    values = np.random.default_rng(0).normal(-1, 1, seeds).tolist()
    effect = PairedEffect(values)
    assert effect.p_irrelevant <= effect.p_below < 1e-10


@given(vectors, st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_order_of_seeds_does_not_matter(values, random):
    shuffled = random.sample(values, len(values))
    one, other = PairedEffect(values), PairedEffect(shuffled)
    assert one.interval == pytest.approx(other.interval, rel=1e-9, abs=1e-9)
    assert one.bootstrap_interval == other.bootstrap_interval
    assert one.p == pytest.approx(other.p, rel=1e-6)


@given(vectors)
@settings(max_examples=25)
def test_sign_mirrors_everything(values):
    one, other = PairedEffect(values), PairedEffect([-x for x in values])
    for name in ("interval", "bootstrap_interval"):
        low, high = getattr(one, name)
        assert getattr(other, name) == pytest.approx((-high, -low), rel=1e-9, abs=1e-9)
    assert (one.p_above, one.p_below) == pytest.approx((other.p_below, other.p_above))
    assert one.size == pytest.approx(-other.size, abs=1e-12)
    assert one.agree == other.agree


@given(vectors, st.sampled_from([2.0**-20, 0.25, 8.0, 2.0**17]))
@settings(max_examples=25)
def test_unit_does_not_matter(values, scale):
    """By powers of two, which round nothing: else ties of the bootstrap break differently."""
    one, other = PairedEffect(values), PairedEffect([scale * x for x in values])
    assert other.size == pytest.approx(one.size, rel=1e-6, abs=1e-9)
    assert other.p == pytest.approx(one.p, rel=1e-6)
    assert other.bootstrap_interval == tuple(scale * end for end in one.bootstrap_interval)


def test_bootstrap_is_always_the_same_and_says_where_it_differs():
    assert bootstrap_mean(EFFECTS) == bootstrap_mean(EFFECTS)
    assert bootstrap_mean(EFFECTS) != bootstrap_mean(EFFECTS, resamples=500)
    assert PairedEffect(EFFECTS).agree
    outlier = [0.0, 0.01, 0.02, 0.0, 0.01, 0.03, 0.02, 0.01, 0.0, 1.0]
    assert not PairedEffect(outlier).agree


def test_seeds_that_agree_divide_by_nothing():
    none = PairedEffect([0.0] * 10)
    assert (none.sd, none.size, none.interval, none.p, none.p_irrelevant) == (0, 0, (0, 0), 1, 1)
    same = PairedEffect([0.1 + 0.2, 0.3] * 5)  # equal to rounding
    assert same.sd == 0
    assert same.size == math.inf
    assert same.p == same.p_above == 2 * 0.5**10  # a sign test
    assert same.bootstrap_interval == same.interval
    assert PairedEffect([-0.3] * 10).p_below == 2 * 0.5**10
    assert PairedEffect([0.0] * 10, null=-0.1).p_above == 2 * 0.5**10


def test_one_seed_has_no_interval():
    one = PairedEffect([0.7])
    assert one.interval == one.bootstrap_interval == (-math.inf, math.inf)
    assert one.p == 1.0


@pytest.mark.parametrize("values", [[], [0.1, math.nan], [math.inf]])
def test_effects_must_be_finite(values):
    with pytest.raises(ValueError, match="Argument `values` must be one finite effect"):
        PairedEffect(values)


def test_power_is_that_of_the_noncentral_t():
    assert power(0.0, 10) == pytest.approx(0.025)  # one of the two tails
    # Cohen, Statistical Power Analysis, table 2.3: two-sided 5%, of one sample's t.
    assert power(0.5, 34) == pytest.approx(0.808, abs=2e-3)
    assert power(0.5, 33) < 0.8 < power(0.5, 34)
    assert power(-0.5, 10) == power(0.5, 10)
    assert detectable(10) == pytest.approx(0.996, abs=1e-3)
    assert [seeds_needed(size) for size in (0.25, 0.5, 1.0, 50.0)] == [128, 34, 10, 2]
    with pytest.raises(ValueError, match="`seeds` must be at least 2"):
        power(0.5, 1)
    with pytest.raises(ValueError, match="`size` must not be 0"):
        seeds_needed(0.0)


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.2 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.2.
    assert holm([0.2, 0.02, 0.01, 0.03]) == pytest.approx([0.2, 0.06, 0.04, 0.06])
    assert holm([0.5, 0.9, 0.4]) == [1.0, 1.0, 1.0]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.sampled_from([0.01, 0.05, 0.2]))
def test_holm_rejects_what_the_sequential_procedure_does(p, level):
    """Step down: reject while p_(k) is below α/(m - k + 1), and stop at the first that is not."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    rejected = set()
    for k, place in enumerate(order):
        if p[place] * (len(p) - k) >= level:
            break
        rejected.add(place)
    adjusted = holm(p)
    assert {i for i, value in enumerate(adjusted) if value < level} == rejected
    assert all(a >= b for a, b in zip(adjusted, p, strict=True))


def test_intervals_cover():
    """2,000 vectors of ten seeds; 300 of forty for the bootstrap, which leans on large n.

    At ten seeds the bootstrap covers about 90%: 95% is out of its reach.
    """
    rng = np.random.default_rng(0)
    means = [PairedEffect(row).interval for row in rng.normal(1.0, 2.0, (2000, 10)).tolist()]
    covered = sum(low <= 1.0 <= high for low, high in means)
    assert within_five_sigma(covered, 2000, 0.95)
    assert not within_five_sigma(covered, 2000, 0.9)
    for seeds, coverage in ((40, 0.94), (10, 0.9)):
        rows = rng.normal(1.0, 2.0, (300, seeds)).tolist()
        covered = sum(low <= 1.0 <= high for low, high in (bootstrap_mean(r, 999) for r in rows))
        assert within_five_sigma(covered, 300, coverage)
        assert not within_five_sigma(covered, 300, 0.7)
