"""Where the arms end along a setting: the learning rate, and the bias of position."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from qattn.experiments.claims.question import BETTER
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
    look = looks(training.arm for training in results.trainings)
    figure, (row,) = grid_of_axes(1, len(groups), 5.2, 3.8)
    for axes, (title, trainings) in zip(row, groups.items(), strict=True):
        metric = metric_of(trainings[0])
        drawn = ends(axes, trainings, metric, lambda training: training.point["lr"], look)
        for x, y in drawn:
            best = np.argmax(BETTER[metric] * y)
            axes.plot(x[best], y[best], "o", color="black", fillstyle="none", markersize=11)
        axes.set(xlabel="learning rate", ylabel=named(metric), title=title)
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


def biased(training: TrainingResult) -> str:
    """The arm, with its position bias where the label does not say it already."""
    if "position_bias" not in training.point:
        return training.arm
    return f"{training.arm}, {training.point['position_bias']} bias".replace("none bias", "no bias")


def ends(
    axes: Any,
    trainings: list[TrainingResult],
    metric: str,
    where: Callable[[TrainingResult], Any],
    look: dict[str, dict[str, Any]],
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The end of each arm against a setting, with 95% intervals; returns places and means."""
    from matplotlib.ticker import NullLocator

    drawn = []
    arms = list(dict.fromkeys(training.arm for training in trainings))
    for number, arm in enumerate(arms):
        shift = 1.04 ** (number - (len(arms) - 1) / 2)  # so that error bars do not hide
        line = sorted((t for t in trainings if t.arm == arm), key=where)
        means = [over_seeds(np.array(training.metrics[metric])) for training in line]
        x, (y, half) = np.array([where(t) for t in line]), map(np.array, zip(*means, strict=True))
        x = x * shift
        axes.errorbar(x, y, np.nan_to_num(half), label=arm, capsize=3, markersize=4, **look[arm])
        drawn.append((x, y))
    axes.set_xscale("log")
    places = sorted({where(training) for training in trainings})
    axes.set_xticks(places, [f"{place:g}" for place in places])
    axes.xaxis.set_minor_locator(NullLocator())
    legend(axes, fontsize=8)
    axes.grid(alpha=0.3)
    return drawn
