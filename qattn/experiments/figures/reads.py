"""Trainings from reads: where they end, and how far their gradients are from the exact ones."""

from collections.abc import Callable
from dataclasses import replace
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


BESIDE: dict[str, Any] = {"fontsize": 7, "loc": "upper left", "bbox_to_anchor": (1, 1)}
"""Legends stand beside their axes: they are long."""


def reads(results: Results) -> "Figure | None":
    """The end against the number of reads, and the gradient's relative error along the way.

    All parts of the experiment are in one panel.
    """
    every = list(map(_told_apart(results), results.trainings))
    groups = panels(every, along=["num_reads"], parts=False)
    if not groups:
        return None
    look = looks(training.arm for training in every)
    figure, grid = grid_of_axes(len(groups), 2, 8.4, 4.4)
    for (title, trainings), (left, right) in zip(groups.items(), grid, strict=True):
        metric = metric_of(trainings[0])
        sampled = [training for training in trainings if number_of_reads(training) is not None]
        ends(left, sampled, metric, number_of_reads, look)
        for training in (t for t in trainings if number_of_reads(t) is None):
            mean, half = over_seeds(np.array(training.metrics[metric]))
            colour = look[training.arm]["color"]
            left.axhline(mean, color=colour, label=f"{training.arm}: no reads")
            left.axhspan(mean - half, mean + half, color=colour, alpha=0.15)
        left.set(xlabel="reads of each query", ylabel=named(metric), title=title)
        legend(left, **BESIDE)
        _errors(right, sampled, look)
    note_missing(figure, results)
    return figure


def _told_apart(results: Results) -> Callable[[TrainingResult], TrainingResult]:
    """Adds the part to the label of an arm that several parts have."""
    parts: dict[str, set[str]] = {}
    for training in results.trainings:
        parts.setdefault(training.arm, set()).add(training.part)

    def told_apart(training: TrainingResult) -> TrainingResult:
        shared = len(parts[training.arm]) > 1
        return replace(training, arm=f"{training.arm} ({training.part})") if shared else training

    return told_apart


def _errors(axes: Any, trainings: list[TrainingResult], look: dict[str, dict[str, Any]]) -> None:
    """Mean over seeds of the gradient's error against the step; more reads are wider lines."""
    named: set[str] = set()
    most = max((number_of_reads(training) or 0 for training in trainings), default=0)
    for training in (t for t in trainings if "gradient_error" in t.curves):
        mean = np.array(training.curves["gradient_error"], dtype=float).mean(1)
        number = number_of_reads(training) or 0
        style = look[training.arm] | {"marker": "", "linewidth": 0.6 + 1.4 * number / most}
        label = None if training.arm in named else training.arm
        named.add(training.arm)
        axes.plot(training.curves["gradient_step"], mean, label=label, **style)
    axes.set(yscale="log", xlabel="step", ylabel="|g - g exact| / |g exact|")
    legend(axes, **BESIDE)
    axes.grid(alpha=0.3)


def number_of_reads(training: TrainingResult) -> int | None:
    """Reads of each query in training; None where moments were exact."""
    sampler, estimator = (training.settings.get(k) for k in ("sampler", "estimator"))
    if estimator == "exact" or (sampler in (None, "exact") and estimator is None):
        return None
    number: int = training.settings.get("num_reads", TrainConfig().num_reads)
    return number
