"""The end against the length of the context, and the gain over the first arm."""

from typing import TYPE_CHECKING, Any

import numpy as np

from qattn.compare.figures.style import logarithmic
from qattn.experiments.figures.curves import named
from qattn.experiments.figures.style import (
    gains,
    legend,
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


def scaling(results: Results) -> "Figure | None":
    """Metric against T by arm, and the gain over the first arm with the same seeds against ln T."""
    groups = panels((t for t in results.trainings if "context" in t.point), along=["context"])
    if not groups:
        return None
    look = looks(training.arm for training in results.trainings)
    figure, grid = grid_of_axes(len(groups), 2, 5.6, 3.8)
    for (title, trainings), (left, right) in zip(groups.items(), grid, strict=True):
        metric = metric_of(trainings[0])
        arms: dict[str, dict[int, TrainingResult]] = {}
        for training in trainings:
            arms.setdefault(training.arm, {})[training.point["context"]] = training
        first = reference_arm(results, trainings[0].part)
        reference = arms.get(first, {})
        for arm, lengths in arms.items():
            ends = {T: np.array(t.metrics[metric]) for T, t in sorted(lengths.items())}
            _points(left, ends, arm, look[arm])
            margins = {T: gains(lengths[T], reference[T], metric) for T in ends if T in reference}
            if margins and arm != first:
                _points(right, margins, arm, look[arm])
        right.axhline(0, color="black", linewidth=0.8)
        left.set(ylabel=named(metric), title=title)
        right.set(ylabel=f"gain over {first} in {metric}", title=title)
        for axes in (left, right):
            logarithmic(axes, "x")
            axes.set_xlabel("context T")
            axes.grid(alpha=0.3)
            legend(axes, fontsize=7)
    note_missing(figure, results)
    return figure


def _points(axes: Any, values: dict[int, np.ndarray], arm: str, look: dict[str, Any]) -> None:
    """Means over seeds with 95% intervals, at each length."""
    means, halves = zip(*(over_seeds(v) for v in values.values()), strict=True)
    style = look | {"linestyle": "none"}
    axes.errorbar(list(values), means, np.nan_to_num(halves), label=arm, capsize=3, **style)
