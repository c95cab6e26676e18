"""Pictures, table and pages of a comparison of trainings."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from scipy import stats

from qattn.compare.figures.style import style
from qattn.compare.page import save_pictures, versions, write_page
from qattn.compare.trainings import TrainingCurve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = (
    "sampler",
    "seeds",
    "final metric",
    "final loss (nats)",
    "gradient error",
    "s / step",
    "sampling",
    "QPU s",
)
"""Headings of :func:`training_rows`."""


def by_sampler(curves: list[TrainingCurve]) -> dict[str, list[TrainingCurve]]:
    """The curves of each sampler, in order, by its label."""
    by_label: dict[str, list[TrainingCurve]] = {}
    for curve in curves:
        by_label.setdefault(curve.sampler, []).append(curve)
    return by_label


def band(values: list[list[float]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean over seeds at each step and half the width of its 95% interval (Student's t).

    nan where there is one seed only. Curves that ended early take part as far as they go.
    """
    longest = max(len(row) for row in values)
    padded = np.array([row + [math.nan] * (longest - len(row)) for row in values])
    count = np.isfinite(padded).sum(0)
    total = np.where(count > 0, np.nansum(padded, 0), math.nan)
    mean = total / np.maximum(count, 1)
    spread = np.full(longest, math.nan)
    several = count > 1
    if several.any():
        sd = np.nanstd(padded[:, several], 0, ddof=1)
        spread[several] = stats.t.ppf(0.975, count[several] - 1) * sd / np.sqrt(count[several])
    return mean, spread


def training_rows(curves: list[TrainingCurve]) -> list[list[str]]:
    """One row of texts per sampler, under :data:`COLUMNS`."""
    rows = []
    for label, group in by_sampler(curves).items():
        steps = max(1, max(curve.steps[-1] for curve in group if curve.steps))
        seconds = sum(curve.seconds for curve in group) / (len(group) * steps)
        share = sum(c.sampling_seconds for c in group) / max(1e-12, sum(c.seconds for c in group))
        qpu = [curve.qpu_seconds for curve in group]
        rows.append(
            [
                label,
                str(len(group)),
                *(
                    _last(*band([getattr(curve, name) for curve in group]))
                    for name in ("values", "losses", "gradient_errors")
                ),
                f"{seconds:.3g}",
                f"{share:.0%}",
                "" if math.isnan(qpu[0]) else f"{sum(qpu):.3g}",
            ]
        )
    return rows


def training_table(curves: list[TrainingCurve]) -> Table:
    """The rows as a table for the terminal."""
    title = "Trainings from the same seeds, evaluated exactly; ± 95% over seeds"
    table = Table(*COLUMNS, title=title)
    for row in training_rows(curves):
        table.add_row(*row)
    return table


def training_figures(curves: list[TrainingCurve]) -> dict[str, "Figure"]:
    """Learning curves, and errors of the gradient, with bands over seeds."""
    metric = curves[0].metric
    return {
        "learning_curves": _panels(
            curves,
            [("values", f"validation {metric}"), ("losses", "validation loss (nats)")],
        ),
        "gradient_errors": _panels(
            curves, [("gradient_errors", "|g - g exact| / |g exact|")], logarithmic=True
        ),
    }


def write_training_report(
    curves: list[TrainingCurve], folder: Path, *, command: str = "", created: str = ""
) -> list[Path]:
    """Write training.json, the pictures as PNG, and training.html; returns their paths."""
    stamps = {"command": command, "created": created}
    pictures, files = save_pictures(training_figures(curves), folder)
    paths = [folder / "training.json", *files, folder / "training.html"]
    data = {"curves": [asdict(curve) for curve in curves], "versions": versions()} | stamps
    paths[0].write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    write_page(
        paths[-1],
        columns=COLUMNS,
        rows=training_rows(curves),
        pictures=pictures,
        emulated=any(curve.emulated for curve in curves),
        stopped=[curve for curve in curves if curve.stopped],
        **stamps,
    )
    return paths


def _panels(
    curves: list[TrainingCurve], panels: list[tuple[str, str]], *, logarithmic: bool = False
) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.2 + 4.6 * len(panels), 4.2), layout="constrained")
    every = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (name, heading) in zip(every, panels, strict=True):
        for index, (label, group) in enumerate(by_sampler(curves).items()):
            mean, spread = band([getattr(curve, name) for curve in group])
            steps = max((curve.steps for curve in group), key=len)
            look: dict[str, Any] = style(index)
            axes.plot(steps, mean, label=label, markersize=4, **look)
            axes.fill_between(steps, mean - spread, mean + spread, color=look["color"], alpha=0.2)
        if logarithmic:
            axes.set_yscale("log")
        axes.set_xlabel("training step")
        axes.set_ylabel(heading)
        axes.grid(alpha=0.3)
    seeds = max(len(group) for group in by_sampler(curves).values())
    every[0].legend(fontsize=8)
    if seeds > 1:
        figure.suptitle(f"bands: 95% interval of the mean of {seeds} seeds", fontsize=9)
    return figure


def _last(mean: NDArray[np.float64], spread: NDArray[np.float64]) -> str:
    """The last mean with its interval, as a text."""
    if not len(mean) or math.isnan(mean[-1]):
        return ""
    if abs(mean[-1]) < 1e-12:
        return "0"
    return f"{mean[-1]:.4g}" + ("" if math.isnan(spread[-1]) else f" ± {spread[-1]:.2g}")
