"""Claims of a kind "sooner": steps to a value of a metric, with members that do not get there."""

import math

import numpy as np
import pytest
from _support.experiments import TINY
from _support.results import made_up

from qattn.experiments import Results, TrainingResult
from qattn.experiments.claims import judge, read_claim, steps_to
from qattn.experiments.reading import parse_experiment
from qattn.experiments.report import content
from qattn.experiments.statistics import LEVEL, PairedEffect, decide

STEPS = [0, 10, 20, 40]
SEEDS = list(range(10))


def training(arm, curves, metric="perplexity", steps=STEPS):
    """A training with a curve for each seed."""
    by_step = np.array(curves, dtype=float).T.tolist()
    return TrainingResult(
        "", arm, {}, {}, list(range(len(curves))), steps[-1], 1, 1.0,
        {metric: by_step[-1]}, {"step": list(steps), metric: by_step},
    )  # fmt: skip


def exponential(rates, floor=1.0, steps=STEPS):
    """Curves that fall from floor + 1 to the floor, one for each rate."""
    return floor + np.exp(-np.outer(rates, steps))


def sooner(**more):
    return {"kind": "sooner", "arm": "fast", "than": "slow", "metric": "perplexity"} | more


def verdict(test, *trainings):
    claims = [{"id": "one", "says": "It is so.", "test": test}]
    (found,) = judge(Results("simulated", {"claims": claims}, list(trainings)))
    return found


def test_steps_are_those_of_the_straight_line_between_evaluations():
    one = training("fast", [[8, 6, 3, 5], [8, 7, 6, 4], [8, 8, 8, 8], [3, 2, 1, 9]])
    # Between steps 10 and 20 at (6 - 4)/(6 - 3) of the way; the rise after it does not count.
    assert steps_to(one, "perplexity", 4.0) == pytest.approx([50 / 3, 40, math.inf, -math.inf])
    assert steps_to(one, "perplexity", 6.0)[:2] == [10, 20]
    # Of an accuracy more is better.
    rises = training("fast", [[0.1, 0.4, 0.8, 0.9]], "accuracy")
    assert steps_to(rises, "accuracy", 0.6) == [pytest.approx(15)]


def test_an_arm_with_half_the_steps_has_one_halving():
    steps = list(range(0, 401, 5))
    rates = np.random.default_rng(0).uniform(0.01, 0.02, 10)
    slow = training("slow", exponential(rates, steps=steps), steps=steps)
    fast = training("fast", exponential(2 * rates, steps=steps), steps=steps)
    for way in ({"threshold": 1.3}, {"share": 0.7}):
        found = verdict(sooner(**way), slow, fast)
        # A chord of 5 steps is off by less than 0.01 of a step here, of some 60.
        assert found.effect.values == pytest.approx([1.0] * 10, abs=0.005)
        assert found.answer == "holds"
        assert verdict(sooner(**way, arm="slow", than="fast"), slow, fast).effect.mean < 0
    assert found.claim.test.unit == "halvings of the steps to 0.7 of the way in perplexity"


def test_who_does_not_get_there_counts_as_at_the_last_step_and_is_named():
    late = [[8, 8, 8, 8]] * 2 + [[8, 7, 6, 2]] * 8
    fast = training("fast", [[8, 4, 4, 4]] * 10)
    found = verdict(sooner(threshold=4), fast, training("slow", late))
    at_30 = math.log2(30 / 10)
    assert found.effect.values == pytest.approx([math.log2(40 / 10)] * 2 + [at_30] * 8)
    assert found.answer == "holds"
    assert "slow does not get to 4 at 2 of 10 seeds" in found.reason
    assert "fast does not get" not in found.reason
    reversed_ = verdict(sooner(threshold=4, arm="slow", than="fast"), fast, training("slow", late))
    assert reversed_.effect.values == pytest.approx([-x for x in found.effect.values])


def test_a_value_out_of_reach_or_reached_before_the_start_decides_nothing():
    reach = [[8, 7, 6, 2]] * 4
    arms = [training(arm, [*reach, *[[8, 8, 8, 8]] * 6]) for arm in ("fast", "slow")]
    found = verdict(sooner(threshold=4), *arms)
    assert (found.answer, found.effect) == ("not decided", None)
    assert "at 6 of 10 seeds neither arm gets to perplexity 4" in found.reason.lower()
    assert verdict(sooner(threshold=7.5), *arms).effect is None
    there = verdict(sooner(threshold=9), *arms)
    assert "is at perplexity 9 when it is first evaluated" in there.reason
    other = training("slow", [[8, 7, 6]] * 10, steps=[0, 10, 20])
    assert "evaluated at different steps" in verdict(sooner(threshold=4), arms[0], other).reason
    assert "has no accuracy" in verdict(sooner(threshold=4, metric="accuracy"), *arms).reason


def false_claims(effects_of, runs=400):
    """Share of simulated pairs of identical arms that are called different."""
    rng, steps = np.random.default_rng(1), list(range(0, 201, 10))
    found = []
    for _ in range(runs):
        arms = []
        for arm in ("fast", "slow"):
            rates, floor = rng.lognormal(-4.6, 0.3, 10), 1 + 0.02 * rng.normal(size=(10, 1))
            noise = 0.01 * rng.normal(size=(10, len(steps)))
            arms.append(training(arm, exponential(rates, floor, steps) + noise, steps=steps))
        results = Results("simulated", {}, arms)
        (decision,) = decide([PairedEffect(effects_of(results))])
        found.append(decision.answer == "holds" or decision.reason.startswith("the opposite"))
    return np.mean(found)


def test_identical_arms_are_not_told_apart():
    """Exchangeable arms have symmetric effects: at most 5%, and 5 standard errors of 400 runs."""
    test = read_claim({"id": "one", "says": "It is so.", "test": sooner(share=0.9)}).test
    bound = LEVEL + 5 * math.sqrt(LEVEL * (1 - LEVEL) / 400)
    assert false_claims(lambda results: list(test.effects(results).by_seed.values())) <= bound

    def to_the_others_end(results):
        """Seed by seed to the end of the other arm, which needs about all of its steps."""
        ends = results.trainings[1].metrics["perplexity"]
        fast, slow = (
            [min(steps_to(t, "perplexity", end)[seed], 200) for seed, end in enumerate(ends)]
            for t in results.trainings
        )
        return [math.log2(b / a) for a, b in zip(fast, slow, strict=True)]

    # The negative control: the value that the class refuses to take.
    assert false_claims(to_the_others_end) > bound


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "must have one of the keys `test.threshold`, `test.share`"),
        ({"threshold": 7, "share": 0.5}, "must have one of the keys"),
        ({"share": 1.0}, "`test.share` must be between 0 and 1, but is 1.0"),
        ({"threshold": "low"}, "`test.threshold` must be of type"),
        ({"share": 0.5, "metric": "speed"}, "`test.metric` must be one of"),
        ({"share": 0.5, "at": "end"}, "unknown key `test.at`"),
    ],
)
def test_wrong_tables_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        read_claim({"id": "one", "says": "It is so.", "test": sooner() | change})


def test_the_error_of_a_gradient_has_no_steps_to_a_value():
    test = '{ kind = "sooner", arm = "boltzmann", than = "softmax", metric = METRIC, share = 0.9 }'
    text = f'{TINY}\n[[claims]]\nid = "one"\nsays = "So."\nsource = "ours"\ntest = {test}\n'
    with pytest.raises(ValueError, match=r"`test\.metric` must be one of 'validation_loss', 'acc"):
        parse_experiment("tiny", text.replace("METRIC", '"gradient_error"'))
    parse_experiment("tiny", text.replace("METRIC", '"accuracy"'))


def test_reports_have_a_table_of_steps():
    test = {"kind": "sooner", "arm": "boltzmann", "than": "softmax", "metric": "perplexity"}
    claims = [{"id": "one", "says": "It is so.", "source": "ours", "test": test | {"threshold": 6}}]
    results = made_up(claims=claims, seeds=3)
    for arm, curve in zip(results.trainings, ([9, 9, 9], [9, 5, 5]), strict=True):
        arm.curves["perplexity"] = [[float(x)] * 3 for x in curve]
    arms, value, steps, there = zip(*content(results).steps.rows, strict=True)
    assert sorted(zip(arms, steps, there, strict=True)) == [
        ("boltzmann", "8 (8 to 8)", "3 of 3"),
        ("softmax", "> 20 (> 20 to > 20)", "0 of 3"),
    ]
    assert set(value) == {"perplexity 6"}
    assert content(made_up(seeds=3)).steps.rows == []
