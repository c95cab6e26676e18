"""Curves of several runs over each other."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qattn.training.config import TrainConfig
from qattn.training.folder import RunFolder
from qattn.training.plots.panels import grid_of_axes
from qattn.training.runs.entry import metric_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "osD^vP"
"""Shapes of points, one for each round through the ten colours."""

NO_LABEL = ("track", "threads", "checkpoint_every", "checkpoint_seconds", "log_every", "eval_every")
"""Settings on which no result depends."""

Curve = list[tuple[float, dict[str, Any]]]
"""Places on the horizontal axis, and the lines of metrics there."""


def overlay(
    folders: Sequence[Path], metrics: Sequence[str] = (), *, against: str = "step"
) -> "Figure":
    """Metrics of several trainings, a panel for each metric and a line for each run.

    A run is called by the settings in which the runs differ, and by its folder where another one
    has the same. Of an ensemble the mean, and its 95% interval as a band.

    Args:
        folders: The runs' folders.
        metrics: Names in metrics.jsonl; by default the validation loss, and the task's metric if
            all runs have the same.
        against: "step" or "seconds", the time of the training steps.

    Raises:
        FileNotFoundError: A folder is not one of a training.
        ValueError: A run cannot be read, or none has a metric.
    """
    if against not in ("step", "seconds"):
        raise ValueError(f"Argument `against` must be step or seconds, but is {against!r}.")
    runs = [RunFolder(folder) for folder in folders]
    records = [run.read_metrics() for run in runs]
    labels = labels_of(folders, [run.read_config() for run in runs])
    metrics = metrics or _common(records)
    figure, (row,) = grid_of_axes(1, len(metrics), 4.8, 3.8)
    for axes, metric in zip(row, metrics, strict=True):
        curves = [_curve(lines, metric, against) for lines in records]
        if not any(curves):
            items = [item for lines in records for line in lines for item in line.items()]
            known = sorted({name for name, value in items if isinstance(value, int | float)})
            raise ValueError(
                f"No run has the metric {metric!r}; there are {', '.join(known) or 'none'}."
            )
        for number, (label, curve) in enumerate(zip(labels, curves, strict=True)):
            _draw(axes, curve, metric, label, number)
        axes.set_xlabel("step" if against == "step" else "time of the steps (s)")
        axes.set_ylabel(metric.replace("_", " ") + (" (nats)" if metric.endswith("loss") else ""))
        axes.grid(alpha=0.3)
    handles, names = row[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", fontsize=8, ncols=_columns(names))
    return figure


def labels_of(folders: Sequence[Path], configs: Sequence[TrainConfig]) -> list[str]:
    """Values of the settings that differ, and names of folders where these say no more."""
    values = [
        dataclasses.asdict(config) | {"attention": config.arm, "couplings": None}  # in the arm
        for config in configs
    ]
    differing = [
        name
        for name in values[0]
        if name not in NO_LABEL and len({repr(each[name]) for each in values}) > 1
    ]
    labels = [", ".join(_setting(name, each[name]) for name in differing) for each in values]
    return [
        f"{label} ({folder.name})" if label and labels.count(label) > 1 else label or folder.name
        for label, folder in zip(labels, folders, strict=True)
    ]


def _setting(name: str, value: Any) -> str:
    """A setting in a legend: its value where that is a word of its own, else with its name."""
    if isinstance(value, str):
        return value
    words = name.replace("_", " ")
    return f"{words} {'default' if value is None else value}"


def _common(records: list[list[dict[str, Any]]]) -> list[str]:
    """The validation loss, and the other metric of validations if it is the same in all runs."""
    own = {
        metric_of(next((line for line in lines if "validation_loss" in line), {}))
        for lines in records
    }
    return ["validation_loss", *filter(None, own if len(own) == 1 else ())]


def _curve(records: list[dict[str, Any]], metric: str, against: str) -> Curve:
    """The lines that have the metric, and where they stand.

    Only training lines have their seconds: others lie between these as their steps do.
    """
    found = [record for record in records if isinstance(record.get(metric), int | float)]
    steps = [record["step"] for record in found]
    if against == "step":
        return [*zip(steps, found, strict=True)]
    timed = {0: 0.0} | {r["step"]: r["seconds"] for r in records if "seconds" in r}
    seconds = np.interp(steps, [*timed], [*timed.values()])
    return [*zip(seconds.tolist(), found, strict=True)]


def _draw(axes: "Axes", curve: Curve, metric: str, label: str, number: int) -> None:
    """A line with the band of its interval."""
    x = [place for place, _ in curve]
    colour, marker = f"C{number % 10}", MARKERS[number // 10 % len(MARKERS)]
    values = [line[metric] for _, line in curve]
    axes.plot(x, values, color=colour, marker=marker, markersize=3, label=label)
    bands = [line.get(f"{metric}_interval") for _, line in curve]
    if curve and None not in bands:
        low, high = zip(*bands, strict=True)
        axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)


def _columns(names: list[str]) -> int:
    """Columns of the legend: as many as fit 100 characters."""
    return max(1, min(len(names), 100 // (max(map(len, names)) + 5)))
