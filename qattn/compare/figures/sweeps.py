"""Pictures of quality against annealing time, number of reads and problem strength."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from qattn.compare.figures.style import legend_above, logarithmic, style
from qattn.compare.results import SetResult, Sweep
from qattn.quality import METRICS, Quality

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = ("mean_rms", "kl", "energy_distance", "gradient_h")
"""Figures that are drawn; the temperatures come after them."""

BETAS = {"beta_h": "β_h", "beta_J": "β_J"}
"""Temperatures, and how a label names them."""

FAR_OFF = 3.0
"""Largest fitted temperature, in units of the target's, on a linear axis."""

AXES = {
    "annealing_time": "annealing time (ns)",
    "num_reads": "reads of each problem",
    "strength": "strength (factor of β)",
}
"""Labels of the axis of what is varied."""


def sweep_plots(set_result: SetResult, order: list[str]) -> dict[str, "Figure"]:
    """One picture for each sweep that has a point.

    Args:
        set_result: The comparison on a set of problems.
        order: Labels of the samplers, whose places give them colours.
    """
    return {
        f"against_{name}": sweep_plot(name, sweep, order)
        for name, sweep in set_result.sweeps.items()
        if any(point.quality is not None for points in sweep.values() for point in points)
    }


def sweep_plot(name: str, sweep: Sweep, order: list[str]) -> "Figure":
    """Figures and temperatures against what is varied; dashed grey is the floor."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    judged = [(p.value, p.quality) for points in sweep.values() for p in points if p.quality]
    shown = [metric for metric in SHOWN if any(metric in quality.scores for _, quality in judged)]
    panels = [*shown, *BETAS]
    columns = 3
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(3.4 * columns, 2.7 * rows + 0.7), layout="constrained")
    grid: Any = figure.subplots(rows, columns, squeeze=False)
    ticks = sorted({value for value, _ in judged})
    for axes, metric in zip(grid.flat, panels, strict=False):
        for place, (label, points) in enumerate(sweep.items()):
            intervals = [(p.value, *_interval(p.quality, metric)) for p in points if p.quality]
            x, y, low, high = np.array(intervals).reshape(-1, 4).T
            drawn = np.isfinite(y)
            bars = np.maximum([y - low, high - y], 0.0)
            look = style(order.index(label) if label in order else place)
            axes.errorbar(
                x[drawn],
                y[drawn],
                bars[:, drawn],
                label=label,
                markersize=4,
                capsize=2,
                linewidth=1,
                **look,
            )
        if metric in shown:
            floors = {value: q.scores[metric].floor for value, q in judged if metric in q.scores}
            line = {"color": "0.35", "linestyle": "--", "linewidth": 1.2, "label": "noise floor"}
            axes.plot(*zip(*sorted(floors.items()), strict=True), **line)
            logarithmic(axes, "y")
            axes.set_ylabel(METRICS[metric].label)
        else:
            axes.axhline(1, color="black", linewidth=0.8)
            axes.set_ylabel(f"fitted {BETAS[metric]} / target")
            if axes.get_ylim()[1] > FAR_OFF:
                logarithmic(axes, "y")
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(AXES[name])
        axes.grid(alpha=0.3)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    legend_above(figure, grid[0][0])
    return figure


def _interval(quality: Quality, metric: str) -> tuple[float, float, float]:
    """A value and its interval: the floor's spread for figures, 95% for temperatures; or nan."""
    if metric in BETAS and quality.betas is not None:
        index = list(BETAS).index(metric)
        return quality.betas.values[index], *quality.betas.interval()[index]
    if metric in BETAS or metric not in quality.scores:
        return math.nan, math.nan, math.nan
    score = quality.scores[metric]
    low = max(score.value - score.floor_sd, score.value / 3)
    return score.value, low, score.value + score.floor_sd
