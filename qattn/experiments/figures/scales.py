"""Trainings at several scales of attention: where they end, and the path of β."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from qattn.compare.figures.style import COLOURS, logarithmic
from qattn.experiments.figures.curves import named
from qattn.experiments.figures.style import legend, looks, note_missing, over_seeds, panels
from qattn.experiments.results import Results, TrainingResult
from qattn.training.plots.panels import grid_of_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRIC = "validation_loss"


def scales(results: Results) -> "Figure | None":
    """Loss at the end, and its mean over the evaluations, against β of fixed scales.

    The other arms stand where their β ended, the geometric mean over heads and seeds.
    """
    groups = panels(results.trainings)
    if not groups:
        return None
    look = looks(["fixed scale", *(t.arm for t in results.trainings if not _is_fixed(t))])
    figure, grid = grid_of_axes(len(groups), 2, 5.2, 3.6)
    for (title, trainings), row in zip(groups.items(), grid, strict=True):
        for axes, (name, read) in zip(row, READ.items(), strict=True):
            line = sorted(filter(_is_fixed, trainings), key=_beta)
            _points(axes, line, read, look["fixed scale"], "fixed scale")
            for training in (t for t in trainings if not _is_fixed(t)):
                style = look[training.arm] | {"linestyle": "none"}
                _points(axes, [training], read, style, training.arm)
            logarithmic(axes, "x")
            axes.set(xlabel="β in units of 1/√d", ylabel=name, title=title)
            axes.grid(alpha=0.3)
        legend(row[1], fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    note_missing(figure, results)
    return figure


def beta_path(results: Results) -> "Figure | None":
    """β of each head against the step where it is not fixed, and β_c before and after training.

    Means over seeds, in a band of one standard deviation; triangles: β_c of the head.
    """
    shown = [t for t in results.trainings if "beta" in t.curves]
    if not shown:
        return None
    figure, grid = grid_of_axes(-(-len(shown) // 2), min(2, len(shown)), 5.2, 3.6)
    every = [axes for row in grid for axes in row]
    for axes in every[len(shown) :]:
        axes.set_visible(False)
    for training, axes in zip(shown, every, strict=False):
        steps = np.array(training.curves["step"])
        paths = np.array(training.curves["beta"], dtype=float)  # by step, member, layer and head
        heads = paths.reshape(*paths.shape[:2], -1)
        for head in range(heads.shape[2]):
            mean, colour = heads[..., head].mean(1), COLOURS[head % len(COLOURS)]
            axes.plot(steps, mean, color=colour, label=f"head {head}")
            if heads.shape[1] > 1:
                sd = heads[..., head].std(1, ddof=1)
                axes.fill_between(steps, mean - sd, mean + sd, color=colour, alpha=0.15)
            for step, name in ((steps[0], "critical_beta_at_start"), (steps[-1], "critical_beta")):
                found = _measured(training, name)
                if found is not None and np.isfinite(found[:, head]).any():
                    axes.plot(step, np.nanmean(found[:, head]), "<", color=colour, clip_on=False)
        logarithmic(axes, "y")
        (title,) = panels([training])
        axes.set(xlabel="step", ylabel="β in units of 1/√d", title=f"{title}, {training.arm}")
        legend(axes, fontsize=7)
        axes.grid(alpha=0.3)
    note_missing(figure, results)
    return figure


def _is_fixed(training: TrainingResult) -> bool:
    return not isinstance(training.settings.get("beta", 1.0), str)


def _beta(training: TrainingResult) -> float:
    """The fixed β; of others the geometric mean over heads and seeds at the end."""
    if _is_fixed(training):
        return float(training.settings.get("beta", 1.0))
    logs = np.log(np.array(training.curves["beta"][-1], dtype=float))
    return math.exp(logs.mean())


def _measured(training: TrainingResult, name: str) -> np.ndarray | None:
    """What was measured of each member and head."""
    table = training.measures.get("criticality", {})
    if name not in table:
        return None
    values = np.array(table[name], dtype=float)
    return values.reshape(len(values), -1)


def _points(
    axes: Any,
    trainings: list[TrainingResult],
    read: Callable[[TrainingResult], np.ndarray],
    style: dict[str, Any],
    label: str,
) -> None:
    """Means over seeds with 95% intervals."""
    if trainings:
        ends = [over_seeds(read(training)) for training in trainings]
        mean, half = map(np.array, zip(*ends, strict=True))
        x = [_beta(training) for training in trainings]
        axes.errorbar(x, mean, np.nan_to_num(half), label=label, capsize=3, markersize=5, **style)


READ: dict[str, Callable[[TrainingResult], np.ndarray]] = {
    f"{named(METRIC)} at the end": lambda t: np.array(t.metrics[METRIC]),
    f"mean {named(METRIC)}, evaluations": lambda t: np.array(t.curves[METRIC])[1:].mean(0),
}
"""What the panels show of each training: where it ends, and how fast it learns."""
