"""How often the procedure claims what is not so, and finds what is.

Simulated experiments of ten seeds, each a family of claims "arm k is better than the control".
Counts lie within 5 standard errors of what theory says; bounds that only limit from above have 5 of
them added.
"""

import math

import numpy as np
import pytest
from scipy import stats

from qattn.experiments.statistics import LEVEL, PairedEffect, decide, power

RUNS = 600
SEEDS = 10


def sigma(probability):
    return math.sqrt(probability * (1 - probability) / RUNS)


def judged(differences):
    """Decisions of many experiments from effects (experiments, claims, seeds)."""
    return [decide([PairedEffect(x) for x in family]) for family in differences.tolist()]


def claims_a_difference(decision):
    return decision.answer == "holds" or decision.reason.startswith("the opposite holds")


def share(families, event=claims_a_difference):
    """Share of the families in which a decision is an event."""
    return np.mean([any(map(event, family)) for family in families])


def normal_arms(rng, arms):
    """Identical arms whose seeds have much in common: correlation 0.9 between arms."""
    common = rng.normal(size=(RUNS, 1, SEEDS))
    return math.sqrt(0.9) * common + math.sqrt(0.1) * rng.normal(size=(RUNS, arms, SEEDS))


def heavy_arms(rng, arms):
    """Student's t with two degrees of freedom, without a variance."""
    return rng.standard_t(2, size=(RUNS, arms, SEEDS))


def skewed_arms(rng, arms):
    return rng.lognormal(sigma=1.5, size=(RUNS, arms, SEEDS))


def test_two_identical_arms_differ_in_five_percent():
    arms = normal_arms(np.random.default_rng(0), 2)
    found = share(judged(arms[:, 1:] - arms[:, :1]))
    assert abs(found - LEVEL) <= 5 * sigma(LEVEL)


@pytest.mark.parametrize("draw", [heavy_arms, skewed_arms])
def test_two_identical_arms_of_other_distributions_differ_no_more_often(draw):
    """Differences of exchangeable arms are symmetric, and heavy tails make t careful."""
    arms = draw(np.random.default_rng(1), 2)
    found = share(judged(arms[:, 1:] - arms[:, :1]))
    assert 0 < found <= LEVEL + 5 * sigma(LEVEL)


def test_families_of_identical_arms_differ_in_five_percent():
    """Independent claims: Holm begins with Bonferroni, so 1 - (1 - α/5)^5 of families claim."""
    differences = np.random.default_rng(2).normal(size=(RUNS, 5, SEEDS))
    families = judged(differences)
    expected = 1 - (1 - LEVEL / 5) ** 5
    assert abs(share(families) - expected) <= 5 * sigma(expected)
    unadjusted = share([[decide([PairedEffect(x)])[0] for x in f] for f in differences.tolist()])
    assert unadjusted > LEVEL + 5 * sigma(LEVEL)  # 23%: what the adjustment is for


@pytest.mark.parametrize("draw", [normal_arms, heavy_arms])
def test_families_with_one_control_differ_no_more_often(draw):
    arms = draw(np.random.default_rng(3), 6)
    assert share(judged(arms[:, 1:] - arms[:, :1])) <= LEVEL + 5 * sigma(LEVEL)


def test_permuted_labels_have_no_effect():
    """A true effect of 1.5 standard deviations, and the arms' labels exchanged at random."""
    rng = np.random.default_rng(4)
    differences = rng.normal(1.5, 1.0, size=(RUNS, 1, SEEDS))
    assert share(judged(differences)) > 0.95
    permuted = differences * rng.choice([-1, 1], size=differences.shape)
    assert share(judged(permuted)) <= LEVEL + 5 * sigma(LEVEL)


def test_seeds_that_depend_on_each_other_are_not_ten():
    """The limit of the procedure: what shifts all seeds together looks like an effect."""
    rng = np.random.default_rng(5)
    shared = math.sqrt(0.3) * rng.normal(size=(RUNS, 1, 1))
    differences = shared + math.sqrt(0.7) * rng.normal(size=(RUNS, 1, SEEDS))
    assert share(judged(differences)) > LEVEL + 5 * sigma(LEVEL)


def test_false_verdicts_of_mixed_families():
    """Claims of an effect of at most 0 hold, or of one of at least 0.25 do not."""
    sizes = np.array([0.0, 0.0, 0.25, 0.25, 1.0, -1.0])
    rng = np.random.default_rng(11)
    families = judged(rng.normal(size=(RUNS, 6, SEEDS)) + sizes[:, None])
    false = [
        any(
            (d.answer == "holds" and size <= 0) or (d.answer == "does not hold" and size >= 0.25)
            for d, size in zip(family, sizes, strict=True)
        )
        for family in families
    ]
    assert 0 < np.mean(false) <= LEVEL + 5 * sigma(LEVEL)
    assert share(families, lambda d: d.answer == "holds") > 0.3  # the effect of 1


@pytest.mark.parametrize("size", [0.5, 1.0, 1.5])
def test_effects_are_found_as_often_as_theory_says(size):
    rng = np.random.default_rng(6)
    families = judged(rng.normal(size, 1.0, size=(RUNS, 1, SEEDS)))
    expected = power(size, SEEDS)
    found = share(families, lambda d: d.answer == "holds")
    assert abs(found - expected) <= 5 * sigma(expected)
    other = power(size + 0.3, SEEDS)
    assert size == 1.5 or abs(found - other) > 5 * sigma(other)


def test_the_wrong_direction_does_not_hold():
    rng = np.random.default_rng(7)
    families = judged(rng.normal(-1.0, 1.0, size=(RUNS, 1, SEEDS)))
    assert share(families, lambda d: d.answer == "holds") == 0
    opposite = share(families, lambda d: d.reason.startswith("the opposite holds"))
    assert abs(opposite - power(1.0, SEEDS)) <= 5 * sigma(power(1.0, SEEDS))
    # "Does not hold" takes less: that the effect is below 0.25.
    edge = stats.nct.ppf(LEVEL / 2, SEEDS - 1, 0.25 * math.sqrt(SEEDS))
    expected = stats.nct.cdf(edge, SEEDS - 1, -math.sqrt(SEEDS))
    against = share(families, lambda d: d.answer == "does not hold")
    assert abs(against - expected) <= 5 * sigma(expected)
    assert against > opposite


def test_a_relevant_effect_is_seldom_denied():
    rng = np.random.default_rng(8)
    denied = share(
        judged(rng.normal(0.25, 1.0, size=(RUNS, 1, SEEDS))),
        lambda decision: decision.answer == "does not hold",
    )
    assert abs(denied - LEVEL / 2) <= 5 * sigma(LEVEL / 2)


def test_no_worse_is_judged_against_its_margin():
    """An effect at the margin is called no worse in 2.5% of experiments, none at all often."""
    rng = np.random.default_rng(9)
    for mean, expected in ((-1.0, LEVEL / 2), (0.0, power(1.0, SEEDS))):
        rows = rng.normal(mean, 1.0, size=(RUNS, SEEDS)).tolist()
        effects = [PairedEffect(row, null=-1.0, relevant=0.0) for row in rows]
        answers = [decide([effect])[0].answer for effect in effects]
        found = answers.count("holds") / RUNS
        assert abs(found - expected) <= 5 * sigma(expected)


def test_fewer_than_ten_seeds_decide_nothing():
    few = [1.0, 1.1, 0.9, 1.0, 1.05, 0.95, 1.02, 0.98, 1.01]
    (decision,) = decide([PairedEffect(few)])
    assert decision.answer == "not decided"
    assert "9 seeds are fewer than the 10" in decision.reason
    (decision,) = decide([PairedEffect([*few, 1.0])])
    assert decision.answer == "holds"


def test_what_cannot_be_judged_counts_in_the_family():
    rng = np.random.default_rng(10)
    effect = PairedEffect(rng.normal(0.9, 1.0, SEEDS).tolist())
    alone, beside = decide([effect])[0], decide([effect, None, PairedEffect([5.0] * 9)])[0]
    assert beside.p == pytest.approx(3 * alone.p)
    none = decide([None])[0]
    assert none.answer == "not decided"


def test_arms_that_agree_exactly():
    ceiling, shift, drop = (decide([PairedEffect([x] * 10)])[0] for x in (0.0, 0.5, -0.5))
    assert ceiling.answer == "not decided"
    assert "no difference" in ceiling.reason
    assert (shift.answer, drop.answer) == ("holds", "does not hold")
    no_worse = decide([PairedEffect([0.0] * 10, null=-0.01, relevant=0.0)])[0]
    assert no_worse.answer == "holds"
