"""Claims: from a table and results to effects by seed and a verdict."""

import math
import random

import numpy as np
import pytest

from qattn.experiments import MissingTraining, Results, TrainingResult
from qattn.experiments.claims import judge, read_claim

SEEDS = list(range(10))
NOISE = np.random.default_rng(0).normal(size=10)


def training(arm, values, seeds=SEEDS, metric="perplexity", part="", measures=None, **point):
    """A training with these values at the end, and twice them at its first evaluation."""
    values = [float(x) for x in values]
    return TrainingResult(
        part=part,
        arm=arm,
        point=point,
        settings={"task": "shakespeare"},
        seeds=list(seeds),
        steps=100,
        parameters=1,
        seconds=1.0,
        metrics={metric: values},
        curves={"step": [50, 100], metric: [[2 * x for x in values], values]},
        measures=measures or {},
    )


def results(*trainings, missing=(), **tests):
    """Results with a claim for each test."""
    claims = [{"id": name, "says": "It is so.", "test": test} for name, test in tests.items()]
    return Results("simulated", {"claims": claims}, list(trainings), list(missing))


def verdict(test, *trainings, missing=()):
    (found,) = judge(results(*trainings, missing=missing, claim=test))
    return found


def gain(kind="difference", metric="perplexity", **more):
    return {"kind": kind, "arm": "boltzmann", "than": "softmax", "metric": metric} | more


@pytest.mark.parametrize(("metric", "sign"), [("perplexity", -1), ("accuracy", 1)])
def test_difference_is_positive_where_the_arm_is_better(metric, sign):
    arms = (
        training("softmax", 6 + NOISE, metric=metric),
        training("boltzmann", 6 + NOISE + sign * (0.1 + 0.01 * NOISE**2), metric=metric),
    )
    found = verdict(gain(metric=metric), *arms)
    assert found.effect.values == pytest.approx(0.1 + 0.01 * NOISE**2)
    assert found.answer == "holds"
    assert found.seeds == tuple(SEEDS)
    reversed_ = verdict(gain(metric=metric, arm="softmax", than="boltzmann"), *arms)
    assert reversed_.answer == "does not hold"
    assert "; the opposite holds: −" in reversed_.reason


def test_mean_over_the_curve():
    arms = training("softmax", [6.0] * 10), training("boltzmann", 5 + 0.1 * NOISE)
    found = verdict(gain(at="curve"), *arms)
    assert found.effect.values == pytest.approx(1.5 * (1 - 0.1 * NOISE))


def test_seeds_are_matched_by_their_number():
    shuffled = random.Random(0).sample(SEEDS, 10)
    softmax = training("softmax", 6 + NOISE)
    boltzmann = training("boltzmann", (5.9 + NOISE)[shuffled], seeds=shuffled)
    assert verdict(gain(), softmax, boltzmann).effect.values == pytest.approx([0.1] * 10)
    by_place = training("boltzmann", (5.9 + NOISE)[shuffled])
    assert verdict(gain(), softmax, by_place).effect.sd > 0.1


def test_seeds_that_one_side_lacks_are_dropped_and_named():
    softmax = training("softmax", [6.0] * 12, seeds=range(12))
    boltzmann = training("boltzmann", 5.9 + 0.01 * NOISE, seeds=range(1, 11))
    found = verdict(gain(), softmax, boltzmann)
    assert (found.seeds, found.dropped) == (tuple(range(1, 11)), (0, 11))
    assert "without seeds 0, 11, which one side lacks" in found.reason
    few = verdict(gain(), training("softmax", [6.0] * 12, seeds=range(3, 15)), boltzmann)
    assert few.answer == "not decided"
    assert "8 seeds are fewer than the 10" in few.reason
    none = verdict(gain(), training("softmax", [6.0], seeds=[99]), boltzmann)
    assert (none.answer, none.effect) == ("not decided", None)
    assert "no seed in common" in none.reason


def test_two_trainings_of_other_seeds_are_one_side():
    softmax = training("softmax", 6 + NOISE)
    halves = [training("boltzmann", 5.9 + NOISE[s], seeds=s) for s in (SEEDS[:4], SEEDS[4:])]
    assert verdict(gain(), softmax, *halves).effect.values == pytest.approx([0.1] * 10)
    with pytest.raises(ValueError, match="seed 0 has two trainings"):
        verdict(gain(), softmax, *halves, halves[0])


def test_what_is_not_trained_is_named():
    softmax = training("softmax", 6 + NOISE)
    missing = MissingTraining("", "boltzmann", {"lr": 0.01}, SEEDS, 5000, 3000)
    found = verdict(gain(), softmax, missing=[missing])
    assert (found.answer, found.effect) == ("not decided", None)
    assert found.reason == ("Not trained to the end: boltzmann at lr = 0.01, 3,000 of 5,000 steps.")
    found = verdict(gain(where={"lr": 0.1}), softmax)
    assert "boltzmann at lr = 0.1" in found.reason


def test_a_number_that_is_not_finite_decides_nothing():
    softmax, values = training("softmax", 6 + NOISE), 5 + NOISE
    values[3] = math.nan
    found = verdict(gain(), softmax, training("boltzmann", values))
    assert found.answer == "not decided"
    assert "Seed 3 of boltzmann is at nan" in found.reason


def test_points_of_the_grid_and_other_parts():
    trainings = [
        training("exact", 6 + NOISE, part="exact"),
        training("gibbs", 6.1 + NOISE, part="reads", num_reads=100),
        training("gibbs", 6.01 + NOISE + 0.001 * NOISE**2, part="reads", num_reads=1000),
    ]
    test = gain("no worse", arm="gibbs", part="reads", than="exact", than_part="exact")
    test |= {"where": {"num_reads": 1000}, "than_where": {}, "margin": 0.05}
    found = verdict(test, *trainings)
    assert found.effect.mean == pytest.approx(-0.01 - 0.001 * np.mean(NOISE**2))
    assert found.answer == "holds"
    worse = verdict(test | {"where": {"num_reads": 100}}, *trainings)
    assert worse.answer == "does not hold"
    assert "(95% interval −0.1 to −0.1); the effect is below −0.05: −" in worse.reason
    assert " sd from −0.05 at 10 seeds" in worse.reason
    assert verdict(test | {"margin": 0.0101}, *trainings).answer != "holds"


def lengths(slope, noise=0.0):
    """Two arms at four lengths; the gain grows by `slope` for each unit of ln T."""
    rng = np.random.default_rng(1)
    for T in (4, 8, 12, 16):
        softmax = 8 - math.log(T) + NOISE
        margin = slope * math.log(T) + noise * rng.normal(size=10)
        yield training("softmax", softmax, context=T, part="dense")
        yield training("boltzmann", softmax - margin, context=T, part="dense")


def test_slope_of_the_margin():
    test = gain("slope", parts=["dense"])
    assert verdict(test, *lengths(0.2)).effect.values == pytest.approx([0.2] * 10)
    trainings = list(lengths(0.2, noise=0.05))
    found = verdict(test, *trainings)
    margins = np.array(
        [
            np.subtract(one.metrics["perplexity"], other.metrics["perplexity"])
            for one, other in zip(trainings[::2], trainings[1::2], strict=True)
        ]
    )
    expected = np.polyfit(np.log([4, 8, 12, 16]), margins, 1)[0]
    assert found.effect.values == pytest.approx(expected)
    assert found.answer == "holds"
    assert found.claim.test.unit == "perplexity per ln T"
    assert verdict(test | {"sign": -1}, *trainings).answer == "does not hold"


def test_slope_over_chosen_lengths_and_over_parts():
    dense = list(lengths(0.2))
    long = [
        training("softmax", 5 + NOISE, context=32, part="long"),
        training("boltzmann", 5 + NOISE, context=32, part="long"),
    ]
    both = verdict(gain("slope", parts=["dense", "long"]), *dense, *long)
    assert both.effect.mean < 0.2
    some = gain("slope", part="dense", where={"context": [4, 8]})
    assert verdict(some, *dense).effect.mean == pytest.approx(0.2)
    one = verdict(gain("slope", part="dense", where={"context": 4}), *dense)
    assert "takes two or more different lengths" in one.reason
    unmeasured = verdict(gain("slope", "gradient_error", parts=["dense"]), *dense)
    assert "the arm boltzmann has no gradient_error" in unmeasured.reason.lower()
    lacking = verdict(gain("slope", part="dense"), *dense[:-1])
    assert "not trained at the same lengths" in lacking.reason


def couplings(near, far):
    """J by distance 1 to 7 for each seed."""
    return {"couplings": {"by_distance": [[9.0, n, n, n, 0.0, f, f] for n, f in zip(near, far)]}}  # noqa: B905


def test_sign_of_what_is_measured():
    measured = couplings(0.1 + 0.01 * NOISE, -0.02 + 0.001 * NOISE)
    arm = training("boltzmann", 6 + NOISE, measures=measured)
    test = {"kind": "measure", "arm": "boltzmann", "measure": "couplings", "value": "by_distance"}
    near = verdict(test | {"at": [2, 3, 4]}, arm)
    assert near.effect.values == pytest.approx(0.1 + 0.01 * NOISE)
    assert near.answer == "holds"
    far = verdict(test | {"at": [6, 7], "sign": -1}, arm)
    assert far.effect.values == pytest.approx(0.02 - 0.001 * NOISE)
    assert far.answer == "holds"
    assert verdict(test | {"at": [6, 7]}, arm).answer == "does not hold"
    assert "has 7 places" in verdict(test | {"at": [8]}, arm).reason
    assert "no position_bias of" in verdict(test | {"value": "position_bias"}, arm).reason
    assert "has no class 'right'" in verdict(test | {"of": "right"}, arm).reason
    arm.measures["couplings"]["map"] = [[[0.0]], [[0.0]]]  # a matrix for each layer
    assert "no number for each seed" in verdict(test | {"value": "map"}, arm).reason
    assert far.claim.test.unit == "−couplings: by_distance at 6, 7"


def test_what_is_measured_is_above_or_below_a_bound():
    ratios = {"criticality": {"log_ratio": [[0.5 + 0.01 * x, 0.3 - 0.01 * x] for x in NOISE]}}
    arm = training("boltzmann", 6 + NOISE, measures=ratios | couplings(0.1 + 0.01 * NOISE, NOISE))
    test = {"kind": "measure", "arm": "boltzmann", "measure": "criticality", "value": "log_ratio"}
    near = test | {"measure": "couplings", "value": "by_distance", "at": [2]}
    assert verdict(near | {"bound": 0.05}, arm).answer == "holds"
    assert verdict(near | {"bound": 0.15}, arm).answer == "does not hold"
    assert verdict(near | {"bound": 0.15, "sign": -1}, arm).answer == "holds"
    one = verdict(near | {"bound": 0.15, "sign": -1}, arm)
    assert one.effect.values == pytest.approx(-0.1 - 0.01 * NOISE)
    assert one.effect.null == -0.15
    # Seeds that agree to the last digit are a sign test about the bound.
    assert verdict(test | {"bound": 0.69, "sign": -1}, arm).answer == "holds"
    assert verdict(test | {"bound": 0.39, "sign": -1}, arm).answer == "does not hold"


def test_classes_of_what_is_measured_against_another_arm():
    def outputs(right):
        rows = [[None, [p, 0.1, 0.2], [p, 0.3, 0.4]] for p in right]
        return {"outputs": {"classes": ["right", "wrong", "opening"], "by_position": rows}}

    arms = [
        training("softmax", 6 + NOISE, measures=outputs([0.5] * 10)),
        training("boltzmann", 6 + NOISE, measures=outputs(0.6 + 0.01 * NOISE)),
    ]
    test = {"kind": "measure", "arm": "boltzmann", "than": "softmax", "measure": "outputs"}
    found = verdict(test | {"value": "by_position", "of": "right"}, *arms)
    assert found.effect.values == pytest.approx(0.1 + 0.01 * NOISE)
    assert found.answer == "holds"


def test_claims_of_an_experiment_are_one_family():
    rng = np.random.default_rng(2)
    values = {"softmax": 6 + NOISE, "boltzmann": 6 + NOISE - 0.13 - 0.12 * rng.normal(size=10)}
    arms = [training(arm, x) for arm, x in values.items()]
    (alone,) = judge(results(*arms, one=gain()))
    tests = {f"absent{i}": gain(than="couplings") for i in range(9)}
    family = judge(results(*arms, one=gain(), **tests))
    assert alone.decision.p == pytest.approx(alone.effect.p)
    assert family[0].decision.p == pytest.approx(min(1.0, 10 * alone.effect.p))
    assert (alone.answer, family[0].answer) == ("holds", "not decided")


def test_bootstrap_that_differs_is_said():
    softmax = training("softmax", 6 + NOISE)
    skewed = 6 + NOISE - np.array([0.1, 0.11, 0.09, 0.1, 0.1, 0.12, 0.08, 0.1, 0.1, 3.0])
    found = verdict(gain(), softmax, training("boltzmann", skewed))
    assert "the bootstrap's interval differs" in found.reason
    assert "bootstrap" not in verdict(gain(), softmax, training("boltzmann", 5 + NOISE)).reason


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"metrik": "loss"},
            "'one' has an unknown key `test.metrik`: did you mean 'metric'",
        ),
        ({"kind": "differnce"}, "`test.kind` must be one of difference, no worse, slope, measure"),
        ({"metric": "speed"}, "`test.metric` must be one of 'perplexity'.*but is 'speed'"),
        ({"at": "start"}, "`test.at` must be one of 'end', 'curve', but is 'start'"),
        ({"arm": 3}, "`test.arm` must be of type str, but is 3"),
        ({"where": 12}, "`test.where` must be of type Mapping, but is 12"),
        ({"kind": "no worse"}, "lacks the key `test.margin`"),
        ({"kind": "no worse", "margin": -1}, "`test.margin` must be positive"),
        ({"kind": "slope", "sign": 2}, "`test.sign` must be one of 1, -1, but is 2"),
    ],
)
def test_wrong_tables_name_claim_and_key(change, message):
    table = {"id": "one", "says": "It is so.", "test": gain() | change}
    with pytest.raises(ValueError, match=message):
        read_claim(table)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"says": "It is so.", "test": gain()}, "A claim lacks the key `id`"),
        ({"id": "one", "test": gain()}, "Claim 'one' lacks the key `says`"),
        ({"id": "one", "says": "It is so."}, "Claim 'one': key `test.kind` must be one of"),
        (
            {"id": "one", "says": "It is so.", "test": gain(), "source": "rumour"},
            "`source` must be one of 'paper', .*'control', 'ours', but is 'rumour'",
        ),
        (
            {"id": "one", "says": "It is so.", "test": gain(), "source": "control"},
            "`beside` must name a claim where `source` is 'control'",
        ),
        (
            {
                "id": "one",
                "says": "It is so.",
                "test": {"kind": "measure", "arm": "a", "measure": "m", "value": "v", "at": [0]},
            },
            r"`test.at` must be places counted from 1, but is \[0\]",
        ),
        (
            {
                "id": "one",
                "says": "It is so.",
                "test": {
                    "kind": "measure",
                    "arm": "a",
                    "measure": "m",
                    "value": "v",
                    "bound": math.inf,
                },
            },
            "`test.bound` must be finite, but is inf",
        ),
    ],
)
def test_wrong_claims(table, message):
    with pytest.raises(ValueError, match=message):
        read_claim(table)
