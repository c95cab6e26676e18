"""Learning curves of the arms, and their differences at the end, seed by seed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qattn.experiments.figures.style import (
    gains,
    looks,
    metric_of,
    note_missing,
    over_seeds,
    panels,
    reference_arm,
)
from qattn.experiments.results import Results, TrainingResult
from qattn.training.plots.panels import grid_of_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def learning_curves(results: Results) -> "Figure | None":
    """Metric and validation loss against the step: mean over seeds and one standard deviation.

    What an untrained model has, at step 0, is left out: it would set the scale.
    """
    groups = panels(results.trainings)
    if not groups:
        return None
    look = looks(training.arm for training in results.trainings)
    figure, grid = grid_of_axes(len(groups), 2, 5.2, 3.4)
    for (title, trainings), row in zip(groups.items(), grid, strict=True):
        names = dict.fromkeys([metric_of(trainings[0]), "validation_loss"])
        for axes, name in zip(row, names, strict=False):
            for training in trainings:
                _curve(axes, training, name, look[training.arm])
            axes.set(xlabel="step", ylabel=named(name), title=title)
            axes.grid(alpha=0.3)
        row[0].legend(fontsize=8)
    note_missing(figure, results)
    return figure


def differences(results: Results) -> "Figure | None":
    """How much better each arm ends than the first one of its part: seeds, mean, 95% interval."""
    groups = {
        title: (first, [t for t in group if t is not first])
        for title, group in panels(results.trainings).items()
        for first in group
        if first.arm == reference_arm(results, first.part) and len(group) > 1
    }
    if not groups:
        return None
    look = looks(training.arm for training in results.trainings)
    tallest = max(len(others) for _, others in groups.values())
    figure, grid = grid_of_axes(len(groups), 2, 5.2, 1.2 + 0.42 * tallest)
    for (title, (reference, others)), row in zip(groups.items(), grid, strict=True):
        names = dict.fromkeys([metric_of(reference), "validation_loss"])
        for axes, name in zip(row, names, strict=False):
            effects = [np.array([*gains(t, reference, name).values()]) for t in others]
            dots(axes, [(t.arm, e) for t, e in zip(others, effects, strict=True)], look)
            axes.axvline(0, color="black", linewidth=0.8)
            axes.set(xlabel=f"gain over {reference.arm} in {named(name)}", title=title)
    note_missing(figure, results)
    return figure


def dots(
    axes: Any, rows: Sequence[tuple[str, np.ndarray]], look: dict[str, dict[str, Any]]
) -> None:
    """A line for each arm, the first on top: values of the seeds, their mean and its interval."""
    for height, (label, values) in enumerate(rows):
        colour, marker = look[label]["color"], look[label]["marker"]
        spread = height + 0.18 + 0.05 * (np.arange(len(values)) % 3)  # so that dots do not hide
        axes.plot(values, spread, ".", color=colour, alpha=0.5, markersize=4)
        if len(values):
            mean, half = over_seeds(values)
            axes.errorbar(mean, height, xerr=half, color=colour, marker=marker, capsize=3)
    axes.set_yticks(range(len(rows)), [label for label, _ in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.locator_params(axis="x", nbins=6)
    axes.grid(alpha=0.3, axis="x")


def named(metric: str) -> str:
    """A metric as axes and tables call it."""
    return "validation loss (nats)" if metric == "validation_loss" else metric


def _curve(axes: Any, training: TrainingResult, name: str, look: dict[str, Any]) -> None:
    """Mean of a metric over seeds against the step, in a band of one standard deviation."""
    steps = np.array(training.curves["step"])
    values = np.array(training.curves[name], dtype=float)[steps > 0]
    mean = values.mean(1)
    axes.plot(steps[steps > 0], mean, label=training.arm, markersize=3, **look)
    if values.shape[1] > 1:
        sd = values.std(1, ddof=1)
        axes.fill_between(steps[steps > 0], mean - sd, mean + sd, color=look["color"], alpha=0.15)
