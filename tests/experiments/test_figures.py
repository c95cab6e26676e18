"""The figures of experiments show the numbers of their results."""

import dataclasses

import numpy as np
import pytest
from _support.results import made_up, without
from scipy import stats

from qattn.experiments import Results
from qattn.experiments.figures import CAPTIONS, FIGURES, draw
from qattn.experiments.figures.along_settings import biases, rates
from qattn.experiments.figures.couplings_map import couplings_map
from qattn.experiments.figures.curves import differences, learning_curves
from qattn.experiments.figures.outputs import outputs
from qattn.experiments.figures.reads import reads
from qattn.experiments.figures.scaling import lines, scaling
from qattn.experiments.figures.style import looks


def bars(axes):
    """Centres and half lengths of the error bars of each arm, by its label."""
    found = {}
    for container in axes.containers:
        line, _, (segments,) = container.lines
        ends = np.array(segments.get_segments())
        along = ends[:, 1, :] - ends[:, 0, :]
        found[container.get_label().partition(":")[0]] = line.get_xydata(), along.max(1) / 2
    return found


def interval(values):
    """Mean, and half of the 95% interval."""
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return np.mean(values), half


def test_learning_curves_are_means_within_one_standard_deviation():
    results = made_up(parts=["small", "large"])
    figure = learning_curves(results)
    (left, _), (below, _) = np.reshape(figure.axes, (2, 2))
    for axes, part in ((left, "small"), (below, "large")):
        assert axes.get_title() == part
        for line, training in zip(axes.lines, results.select(part), strict=True):
            values = np.array(training.curves["perplexity"])[1:]  # the untrained model is left out
            assert line.get_label() == training.arm
            np.testing.assert_allclose(line.get_xdata(), [10, 20])
            np.testing.assert_allclose(line.get_ydata(), values.mean(1))
        band = axes.collections[0].get_paths()[0].vertices[:, 1]
        values = np.array(results.select(part)[0].curves["perplexity"])[1:]
        sd = values.std(1, ddof=1)
        assert band.max() == pytest.approx((values.mean(1) + sd).max())
        assert band.min() == pytest.approx((values.mean(1) - sd).min())


def test_differences_are_paired_by_seed_and_positive_where_the_arm_is_better():
    results = made_up(arms=["softmax", "boltzmann", "sigmoid"])
    left = differences(results).axes[0]
    reference, *others = results.trainings
    assert [text.get_text() for text in left.get_yticklabels()] == ["boltzmann", "sigmoid"]
    for place, training in enumerate(others):
        gain = np.array(reference.metrics["perplexity"]) - training.metrics["perplexity"]
        np.testing.assert_allclose(left.lines[4 * place].get_xdata(), gain)
        mean, half = interval(gain)
        centre, length = _bar(left, place)
        assert (centre, length) == pytest.approx((mean, half))


def _bar(axes, number):
    line, _, (segments,) = axes.containers[number].lines
    (ends,) = segments.get_segments()
    return line.get_xdata()[0], (ends[1, 0] - ends[0, 0]) / 2


def test_couplings_by_distance_have_intervals_over_seeds():
    results = made_up(arms=["boltzmann"])
    figure = couplings_map(results)
    measured = results.trainings[0].measures["couplings"]
    shown = [image.get_array() for axes in figure.axes for image in axes.images]
    np.testing.assert_allclose(shown, measured["map"])
    (profile,) = [axes for axes in figure.axes if axes.containers]
    points, halves = bars(profile)["learned"]
    for place, values in enumerate(np.transpose(measured["by_distance"])):
        mean, half = interval(values)
        assert tuple(points[place]) == pytest.approx((place + 1, mean))
        assert halves[place] == pytest.approx(half)


def test_outputs_are_probabilities_where_brackets_close():
    results = made_up()
    figure = outputs(results)
    right = figure.axes[0]
    measured = results.trainings[0].measures["outputs"]
    points, halves = bars(right)["softmax"]
    assert len(points) == 5  # none closes at the first of six positions
    values = [member[3][0] for member in measured["by_position"]]
    mean, half = interval(values)
    assert points[2, 1] == pytest.approx(mean)
    assert halves[2] == pytest.approx(half)
    images = [axes for axes in figure.axes if axes.images]
    np.testing.assert_allclose(
        images[0].images[0].get_array(), np.transpose(measured["example"]["distribution"])
    )
    assert [t.get_text() for t in images[0].get_xticklabels()] == measured["example"]["word"]


def test_rates_mark_the_best_of_each_arm():
    results = made_up(points=[{"lr": 0.001}, {"lr": 0.01}, {"lr": 0.1}])
    (axes,) = rates(results).axes
    for arm, (points, halves) in bars(axes).items():
        for training, point, half in zip(results.select(arm=arm), points, halves, strict=True):
            mean, expected = interval(training.metrics["perplexity"])
            assert point[0] == pytest.approx(training.point["lr"], rel=0.03)  # arms stand apart
            assert point[1] == pytest.approx(mean)
            assert half == pytest.approx(expected)
    rings = [line for line in axes.lines if line.get_fillstyle() == "none"]
    best = [points[np.argmin(points[:, 1])] for points, _ in bars(axes).values()]
    np.testing.assert_allclose([ring.get_xydata()[0] for ring in rings], best)


def test_reads_stand_beside_exact_moments_and_errors_of_gradients():
    points = [{"sampler": "gibbs", "num_reads": n} for n in (30, 100)] + [{}]
    results = made_up(points=points, arms=["exact"])
    figure = reads(results)
    titles = {axes.get_title() for axes in figure.axes[::2]}
    assert titles == {"sampler = gibbs", ""}
    left, right = figure.axes[:2]
    trainings = results.select(sampler="gibbs")
    ends, _ = bars(left)["exact"]
    np.testing.assert_allclose(ends[:, 0], [30, 100])
    np.testing.assert_allclose(ends[:, 1], [np.mean(t.metrics["perplexity"]) for t in trainings])
    for line, training in zip(right.lines, trainings, strict=True):
        expected = np.mean(training.curves["gradient_error"], axis=1)
        np.testing.assert_allclose(line.get_ydata(), expected)
    assert left.get_xscale() == right.get_yscale() == "log"
    level = figure.axes[2].lines[0].get_ydata()[0]
    assert level == pytest.approx(np.mean(results.trainings[-1].metrics["perplexity"]))


def test_reads_of_all_parts_are_in_one_panel():
    sampled = made_up(parts=["reads"], arms=["gibbs"], points=[{"num_reads": 30}])
    sampled.trainings[0].settings["sampler"] = "gibbs"
    sampled.trainings.extend(made_up(parts=["exact"], arms=["exact"]).trainings)
    left, _ = reads(sampled).axes
    assert [text.get_text() for text in left.get_legend().get_texts()] == [
        "exact: no reads",
        "gibbs",
    ]


def test_arms_of_two_parts_are_two_lines():
    results = made_up(parts=["linear", "flux"], arms=["gibbs"], points=[{"num_reads": 30}])
    for training in results.trainings:
        training.settings["sampler"] = "gibbs"
    left, _ = reads(results).axes
    assert {name: len(points) for name, (points, _) in bars(left).items()} == {
        "gibbs (linear)": 1,
        "gibbs (flux)": 1,
    }


def test_biases_are_named_beside_their_arms():
    results = made_up(points=[{"position_bias": "none"}, {"position_bias": "relative"}])
    (axes,) = biases(results).axes
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == [
        "softmax, no bias",
        "boltzmann, no bias",
        "softmax, relative bias",
        "boltzmann, relative bias",
    ]
    centre, length = _bar(axes, 3)
    mean, half = interval(results.trainings[3].metrics["perplexity"])
    assert (centre, length) == pytest.approx((mean, half))


def test_scaling_shows_ends_and_gains_at_each_length():
    results = made_up(points=[{"context": 4}, {"context": 8}, {"context": 16}])
    left, right = scaling(results).axes
    points, _ = bars(left)["softmax"]
    ends = [np.mean(t.metrics["perplexity"]) for t in results.select(arm="softmax")]
    np.testing.assert_allclose(points, np.column_stack([[4, 8, 16], ends]))
    gains, halves = bars(right)["boltzmann"]
    for place, context in enumerate([4, 8, 16]):
        ours, theirs = (
            results.select(arm=arm, context=context)[0] for arm in ("boltzmann", "softmax")
        )
        gain = np.array(theirs.metrics["perplexity"]) - ours.metrics["perplexity"]
        mean, half = interval(gain)
        assert tuple(gains[place]) == pytest.approx((context, mean))
        assert halves[place] == pytest.approx(half)
    assert set(bars(right)) == {"boltzmann"}
    slope = [np.polyfit(np.log([4, 8, 16]), gains[:, 1], 1)[0]]
    (curve,) = [line for line in right.lines if len(line.get_xdata()) == 60]
    x, y = curve.get_xydata().T
    np.testing.assert_allclose(np.polyfit(np.log(x), y, 1)[0], slope)


def test_a_length_that_one_seed_lacks_and_lengths_too_few_for_a_fit():
    results = made_up(points=[{"context": 4}, {"context": 8}])
    short = dataclasses.replace(results.trainings[-1], seeds=[0, 1, 2, 9])
    results.trainings[-1] = short
    (_, right) = scaling(results).axes
    gains, halves = bars(right)["boltzmann"]
    reference = results.select(arm="softmax", context=8)[0].metrics["perplexity"]
    gain = np.subtract(reference, short.metrics["perplexity"])[:3]  # the seeds of both
    assert (gains[1, 1], halves[1]) == pytest.approx(interval(gain))
    assert {len(line.get_xdata()) for line in right.lines} == {2}


def test_a_power_law_at_its_edge_is_not_drawn():
    contexts = [4, 8, 16, 32, 64]
    results = made_up(points=[{"context": T} for T in contexts], arms=["softmax"], seeds=10)
    chance = np.random.default_rng(0)
    for training in results.trainings:  # bent downwards, as no power law is
        T = np.log(training.point["context"])
        ends = 9 - 0.1 * T - 0.1 * T**2 + chance.normal(0, 0.01, 10)
        training.metrics["perplexity"][:] = ends
    (line,) = lines(results)
    logarithm, power = line.fits()
    assert power.at_edge
    assert line.drawn_fit().form == logarithm.form


def test_a_long_list_of_what_is_lacking_fits_below_a_figure():
    arms = ["softmax", *(f"boltzmann, with a long name {n}" for n in range(4))]
    results = made_up(arms=arms, points=[{"position_bias": "free"}])
    for arm in arms[1:]:
        gone = without(results, arm)
        results = dataclasses.replace(gone, missing=[*results.missing, *gone.missing])
    figure = biases(results)
    figure.draw_without_rendering()
    box = figure._supxlabel.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width


def test_figures_name_what_they_lack():
    results = without(made_up(arms=["softmax", "boltzmann", "sigmoid"]), "sigmoid")
    for figure in (learning_curves(results), differences(results)):
        assert "sigmoid" in figure.get_supxlabel()
        assert "boltzmann" not in figure.get_supxlabel()
    assert differences(without(results, "softmax")) is None  # nothing to compare with


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_can_be_without_any_training(name):
    assert FIGURES[name](Results("none", {}, [])) is None
    assert name in CAPTIONS


def test_the_experiment_chooses_its_figures():
    assert list(draw(made_up(figures=["curves", "bias"]))) == ["curves", "bias"]


def test_an_arm_has_one_colour_everywhere():
    few, many = looks(["boltzmann"]), looks(["softmax", "boltzmann", "boltzmann, free bias"])
    assert few["boltzmann"] == many["boltzmann"]
    assert many["boltzmann"]["color"] == many["boltzmann, free bias"]["color"]
    assert len({look["color"] for look in looks(["exact", "gibbs", "neal"]).values()}) == 3
    shapes = [(look["marker"], str(look["linestyle"])) for look in many.values()]
    assert len(set(shapes)) == len(shapes)  # readable in grey
