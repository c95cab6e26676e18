"""The figures of statistical mechanics show the numbers of their results."""

import numpy as np
import pytest
from _support.results import made_up, without
from scipy import stats

from qattn.experiments.figures.composite import composite
from qattn.experiments.figures.dominance import dominance
from qattn.experiments.figures.regimes import regimes
from qattn.experiments.figures.scales import beta_path, scales

SEEDS, LAYERS, HEADS = 4, 2, 3
BETAS = np.logspace(-2, 2, 9, base=2)


def with_measures(name, table, **options):
    """Results whose trainings have this measure, each of its own random numbers."""
    results = made_up(parts=["one task", "another"], seeds=SEEDS, **options)
    for training in results.trainings:
        training.measures[name] = table()
    return results


@pytest.fixture
def chance():
    return np.random.default_rng(0)


def test_regimes_are_stacked_to_one(chance):
    def table():
        return {
            "classes": ["averaging", "clustered", "retrieval"],
            "shares_of_heads": chance.dirichlet([1, 2, 3], (SEEDS, LAYERS, HEADS)).tolist(),
            "shares_at_start": chance.dirichlet([9, 1, 1], (SEEDS, LAYERS)).tolist(),
            "median": chance.integers(1, 6, (SEEDS, LAYERS, HEADS)).tolist(),
        }

    results = with_measures("regimes", table)
    figure = regimes(results)
    for axes, training in zip(figure.axes, results.trainings, strict=True):
        assert axes.get_title() == f"{training.part}, {training.arm}"
        measured = training.measures["regimes"]
        heights = [[bar.get_height() for bar in bars] for bars in axes.containers]
        np.testing.assert_allclose(np.sum(heights, axis=0), 1)
        heads = np.mean(measured["shares_of_heads"], axis=0)
        start = np.mean(measured["shares_at_start"], axis=0)
        expected = np.concatenate([start[:, None], heads], 1).reshape(-1, 3)
        np.testing.assert_allclose(heights, expected.T)
        texts = [float(text.get_text()) for text in axes.texts]
        medians = np.mean(measured["median"], axis=0).ravel()
        np.testing.assert_allclose(texts, medians, atol=0.051)
        bars = [bar.get_x() + bar.get_width() / 2 for bar in axes.containers[0]]
        named = [text.get_position()[0] for text in axes.texts]
        np.testing.assert_allclose(named, [x for i, x in enumerate(bars) if i % (HEADS + 1)])


def test_dominance_shows_curves_and_predictions(chance):
    def table():
        critical = chance.uniform(0.5, 2, (SEEDS, LAYERS, HEADS)).tolist()
        critical[0][0][0] = None  # a head without a peak
        return {
            "betas": BETAS.tolist(),
            "heat_capacity": chance.uniform(0, 1, (LAYERS, HEADS, 9)).tolist(),
            "largest_weight": chance.uniform(0, 1, (LAYERS, HEADS, 9)).tolist(),
            "critical_beta": critical,
            "rem_beta": chance.uniform(0.5, 2, (SEEDS, LAYERS, HEADS)).tolist(),
            "gap_beta": chance.uniform(0.5, 2, (SEEDS, LAYERS, HEADS)).tolist(),
        }

    results = with_measures("dominance", table, arms=("softmax",))
    panels = np.reshape(dominance(results).axes, (2, 3))
    for (left, middle, right), training in zip(panels, results.trainings, strict=True):
        measured = training.measures["dominance"]
        for axes, name in ((left, "heat_capacity"), (middle, "largest_weight")):
            lines = [line.get_ydata() for line in axes.lines if len(line.get_xdata()) == 9]
            np.testing.assert_allclose(lines, np.reshape(measured[name], (-1, 9)))
        found = np.array(measured["critical_beta"], dtype=float).ravel()
        for line, name in zip(right.lines, ("rem_beta", "gap_beta"), strict=False):
            np.testing.assert_allclose(line.get_xdata(), found)
            np.testing.assert_allclose(line.get_ydata(), np.ravel(measured[name]))
    gone = without(results, "softmax")
    assert dominance(gone) is None


def test_composite_shows_the_correlations_of_each_training(chance):
    size = LAYERS * HEADS

    def table():
        return {
            "correlations": chance.uniform(0, 1, (size, size)).tolist(),
            "correlation": chance.uniform(0, 1, (SEEDS, LAYERS)).tolist(),
        }

    results = with_measures("composite", table)
    panels = [axes for axes in composite(results).axes if axes.images]
    for axes, training in zip(panels, results.trainings, strict=True):
        shown = axes.images[0].get_array()
        np.testing.assert_allclose(shown, training.measures["composite"]["correlations"])
        assert {line.get_xdata()[0] for line in axes.lines} == {0.0, HEADS - 0.5}


def scaled(chance):
    """Arms of three fixed scales and of a learned one."""
    arms = ("1/√d", "0.25/√d", "4/√d", "learnable")
    results = made_up(arms=arms, seeds=SEEDS)
    for training, beta in zip(results.trainings, (1.0, 0.25, 4.0, "learnable"), strict=True):
        training.settings["beta"] = beta
    learned = results.trainings[-1]
    learned.curves["beta"] = chance.uniform(0.5, 2, (3, SEEDS, LAYERS, HEADS)).tolist()
    return results


def test_scales_are_in_order_and_the_learned_one_where_it_ended(chance):
    results = scaled(chance)
    left, right = scales(results).axes
    learned = results.trainings[-1]
    for axes, read in (
        (left, lambda t: t.metrics["validation_loss"]),
        (right, lambda t: np.mean(t.curves["validation_loss"][1:], axis=0)),
    ):
        lines = {bars.get_label(): bars for bars in axes.containers}
        fixed, _, (segments,) = lines["fixed scale"].lines
        np.testing.assert_allclose(fixed.get_xydata()[:, 0], [0.25, 1, 4])
        for place, training in enumerate(results.trainings[i] for i in (1, 0, 2)):
            values = np.array(read(training))
            assert fixed.get_ydata()[place] == pytest.approx(values.mean())
            low, high = segments.get_segments()[place][:, 1]
            half = stats.t.ppf(0.975, SEEDS - 1) * stats.sem(values)
            assert (high - low) / 2 == pytest.approx(half)
        point, *_ = lines["learnable"].lines
        end = np.exp(np.log(learned.curves["beta"][-1]).mean())
        assert point.get_xdata()[0] == pytest.approx(end)


def test_the_path_of_beta_is_a_mean_over_seeds_with_critical_ones_at_its_ends(chance):
    results = scaled(chance)
    learned = results.trainings[-1]
    critical = chance.uniform(0.5, 2, (SEEDS, LAYERS, HEADS)).tolist()
    learned.measures["criticality"] = {
        "critical_beta": critical,
        "critical_beta_at_start": [[[None] * HEADS] * LAYERS] * SEEDS,
    }
    (axes,) = beta_path(results).axes
    paths = [line for line in axes.lines if len(line.get_xdata()) == 3]
    means = np.mean(learned.curves["beta"], axis=1).reshape(3, -1)
    np.testing.assert_allclose([line.get_ydata() for line in paths], means.T)
    ends = [line.get_xydata()[0] for line in axes.lines if len(line.get_xdata()) == 1]
    places = np.mean(critical, axis=0).ravel()
    np.testing.assert_allclose(ends, np.column_stack([[20] * len(places), places]))
    assert beta_path(without(results, "learnable")) is None
