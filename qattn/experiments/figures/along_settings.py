"""Where the arms end along a setting: the learning rate, the number of reads, the position bias."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from qattn.experiments.figures.curves import dots, named
from qattn.experiments.figures.style import (
    legend,
    looks,
    metric_of,
    note_missing,
    over_seeds,
    panels,
)
from qattn.experiments.results import Results, TrainingResult
from qattn.training.plots.panels import grid_of_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def rates(results: Results) -> "Figure | None":
    """The metric at the end against the learning rate; a ring marks each arm's best."""
    groups = panels((t for t in results.trainings if "lr" in t.point), along=["lr"])
    if not groups:
        return None
    figure, (row,) = grid_of_axes(1, len(groups), 5.2, 3.8)
    for axes, (title, trainings) in zip(row, groups.items(), strict=True):
        metric = metric_of(trainings[0])
        drawn = _ends(axes, trainings, metric, lambda training: training.point["lr"])
        for x, y in drawn:
            best = np.argmax(y) if metric == "accuracy" else np.argmin(y)
            axes.plot(x[best], y[best], "o", color="black", fillstyle="none", markersize=11)
        axes.set(xscale="log", xlabel="learning rate", ylabel=named(metric), title=title)
    note_missing(figure, results)
    return figure


def reads(results: Results) -> "Figure | None":
    """The end against the number of reads, and the gradient's relative error along the way.

    Arms with exact moments, of any part, are lines in every panel.
    """
    exactly = [t for t in results.trainings if number_of_reads(t) is None]
    groups = panels((t for t in results.trainings if t not in exactly), along=["num_reads"])
    if not groups:
        return None
    look = looks(training.arm for training in results.trainings)
    figure, grid = grid_of_axes(len(groups), 2, 5.6, 4.0)
    for (title, sampled), (left, right) in zip(groups.items(), grid, strict=True):
        metric = metric_of(sampled[0])
        _ends(left, sampled, metric, number_of_reads)
        for training in exactly:
            mean, half = over_seeds(np.array(training.metrics[metric]))
            colour = look[training.arm]["color"]
            left.axhline(mean, color=colour, label=f"{training.arm}: no reads")
            left.axhspan(mean - half, mean + half, color=colour, alpha=0.15)
        left.set(xscale="log", xlabel="reads of each query", ylabel=named(metric), title=title)
        legend(left, fontsize=7)
        most = max(number_of_reads(t) or 0 for t in sampled)
        for training in (t for t in sampled if "gradient_error" in t.curves):
            mean = np.array(training.curves["gradient_error"], dtype=float).mean(1)
            width = 0.6 + 1.4 * (number_of_reads(training) or 0) / most
            label = f"{training.arm}, {number_of_reads(training)} reads"
            style = look[training.arm] | {"marker": "", "linewidth": width}
            right.plot(training.curves["gradient_step"], mean, label=label, **style)
        right.set(yscale="log", xlabel="step", ylabel="|g - g exact| / |g exact|")
        legend(right, fontsize=6, ncols=2)
        right.grid(alpha=0.3)
    note_missing(figure, results)
    return figure


def biases(results: Results) -> "Figure | None":
    """Every arm with every bias of position: seeds, their mean and its 95% interval."""
    groups = panels(results.trainings, along=["position_bias"])
    if not groups:
        return None
    tallest = max(map(len, groups.values()))
    figure, (row,) = grid_of_axes(1, len(groups), 6.4, 1.2 + 0.36 * tallest)
    for axes, (title, trainings) in zip(row, groups.items(), strict=True):
        metric = metric_of(trainings[0])
        lines = [(biased(t), np.array(t.metrics[metric])) for t in trainings]
        of_arm = looks(t.arm for t in trainings)
        dots(axes, lines, {biased(t): of_arm[t.arm] for t in trainings})
        axes.set(xlabel=named(metric), title=title)
    note_missing(figure, results)
    return figure


def number_of_reads(training: TrainingResult) -> int | None:
    """Reads of each query in training; None where moments were exact."""
    sampler, estimator = (training.settings.get(k) for k in ("sampler", "estimator"))
    if estimator == "exact" or (sampler in (None, "exact") and estimator is None):
        return None
    reads: int = training.settings.get("num_reads", training.point.get("num_reads", 100))
    return reads


def biased(training: TrainingResult) -> str:
    """The arm, with its position bias where the label does not say it already."""
    if "position_bias" not in training.point:
        return training.arm
    return f"{training.arm}, {training.point['position_bias']} bias".replace("none bias", "no bias")


def _ends(
    axes: Any,
    trainings: list[TrainingResult],
    metric: str,
    where: Callable[[TrainingResult], Any],
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The end of each arm against a setting, with 95% intervals; returns settings and means."""
    look, drawn = looks(training.arm for training in trainings), []
    for arm in look:
        line = sorted((t for t in trainings if t.arm == arm), key=where)
        ends = [over_seeds(np.array(training.metrics[metric])) for training in line]
        x, (y, half) = np.array([where(t) for t in line]), map(np.array, zip(*ends, strict=True))
        axes.errorbar(x, y, np.nan_to_num(half), label=arm, capsize=3, markersize=4, **look[arm])
        drawn.append((x, y))
    legend(axes, fontsize=8)
    axes.grid(alpha=0.3)
    return drawn
