"""Trainings from reads: where they end, and how far their gradients are from the exact ones."""

from typing import TYPE_CHECKING, Any

import numpy as np

from qattn.experiments.figures.along_settings import ends
from qattn.experiments.figures.curves import named
from qattn.experiments.figures.style import (
    legend,
    looks,
    metric_of,
    note_missing,
    over_seeds,
    panels,
)
from qattn.experiments.results import Results, TrainingResult
from qattn.training import TrainConfig
from qattn.training.plots.panels import grid_of_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def reads(results: Results) -> "Figure | None":
    """The end against the number of reads, and the gradient's relative error along the way.

    All parts of the experiment are in one panel.
    """
    groups = panels(results.trainings, along=["num_reads"], parts=False)
    if not groups:
        return None
    look = looks(training.arm for training in results.trainings)
    figure, grid = grid_of_axes(len(groups), 2, 5.8, 4.2)
    for (title, trainings), (left, right) in zip(groups.items(), grid, strict=True):
        metric = metric_of(trainings[0])
        sampled = [training for training in trainings if number_of_reads(training) is not None]
        ends(left, sampled, metric, number_of_reads, look)
        for training in (t for t in trainings if number_of_reads(t) is None):
            mean, half = over_seeds(np.array(training.metrics[metric]))
            colour = look[training.arm]["color"]
            left.axhline(mean, color=colour, label=f"{training.arm}: no reads")
            left.axhspan(mean - half, mean + half, color=colour, alpha=0.15)
        left.set(xscale="log", xlabel="reads of each query", ylabel=named(metric), title=title)
        legend(left, fontsize=7)
        _errors(right, sampled, look)
    note_missing(figure, results)
    return figure


def _errors(axes: Any, trainings: list[TrainingResult], look: dict[str, dict[str, Any]]) -> None:
    """Mean over seeds of the gradient's error against the step; more reads are wider lines."""
    most = max((number_of_reads(training) or 0 for training in trainings), default=0)
    for training in (t for t in trainings if "gradient_error" in t.curves):
        mean = np.array(training.curves["gradient_error"], dtype=float).mean(1)
        number = number_of_reads(training) or 0
        style = look[training.arm] | {"marker": "", "linewidth": 0.6 + 1.4 * number / most}
        label = f"{training.arm}, {number} reads"
        axes.plot(training.curves["gradient_step"], mean, label=label, **style)
    axes.set(yscale="log", xlabel="step", ylabel="|g - g exact| / |g exact|")
    legend(axes, fontsize=6, ncols=2)
    axes.grid(alpha=0.3)


def number_of_reads(training: TrainingResult) -> int | None:
    """Reads of each query in training; None where moments were exact."""
    sampler, estimator = (training.settings.get(k) for k in ("sampler", "estimator"))
    if estimator == "exact" or (sampler in (None, "exact") and estimator is None):
        return None
    number: int = training.settings.get("num_reads", TrainConfig().num_reads)
    return number
