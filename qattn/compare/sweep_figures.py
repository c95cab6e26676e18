"""Pictures of quality against annealing time, number of reads and problem strength."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from qattn.compare.figures import legend_above, style
from qattn.compare.results import SetResult, Sweep
from qattn.quality import METRICS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = ("mean_rms", "kl", "energy_distance", "gradient_h")
"""Figures that are drawn; the temperatures come after them."""

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

    judged = [point for points in sweep.values() for point in points if point.quality is not None]
    shown = [m for m in SHOWN if any(m in p.quality.scores for p in judged if p.quality)]
    panels = [*shown, "beta_h", "beta_J"]
    columns = 3
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(3.4 * columns, 2.7 * rows + 0.7), layout="constrained")
    grid: Any = figure.subplots(rows, columns, squeeze=False)
    ticks = sorted({point.value for point in judged})
    for axes, metric in zip(grid.flat, panels, strict=False):
        for place, (label, points) in enumerate(sweep.items()):
            index = order.index(label) if label in order else place
            x, y, low, high = [], [], [], []
            for point in points:
                values = _values(point.quality, metric)
                if values is not None:
                    x.append(point.value)
                    y.append(values[0])
                    low.append(max(values[0] - values[1], 0.0))
                    high.append(max(values[2] - values[0], 0.0))
            axes.errorbar(
                x, y, (low, high), label=label, markersize=4, capsize=2, linewidth=1, **style(index)
            )
        if metric in shown:
            _draw_floor(axes, sweep, metric)
            _logarithmic(axes)
            axes.set_ylabel(METRICS[metric].label)
        else:
            axes.axhline(1, color="black", linewidth=0.8)
            axes.set_ylabel(f"fitted {'β_h' if metric == 'beta_h' else 'β_J'} / target")
            if axes.get_ylim()[1] > FAR_OFF:
                _logarithmic(axes)
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(AXES[name])
        axes.grid(alpha=0.3)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    legend_above(figure, grid[0][0], len(sweep) + 1)
    return figure


def _logarithmic(axes: Any) -> None:
    """A logarithmic y axis with ticks at 1, 2 and 5."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _values(quality: Any, metric: str) -> tuple[float, float, float] | None:
    """A value and its interval: the floor's spread for figures, 95% for temperatures."""
    if quality is None:
        return None
    if metric in ("beta_h", "beta_J"):
        if quality.betas is None:
            return None
        index = 0 if metric == "beta_h" else 1
        value = (quality.betas.beta_h, quality.betas.beta_J)[index]
        low, high = quality.betas.interval()[index]
        return (value, low, high) if math.isfinite(value) else None
    score = quality.scores.get(metric)
    if score is None or not math.isfinite(score.value):
        return None
    return (
        score.value,
        max(score.value - score.floor_sd, score.value / 3),
        (score.value + score.floor_sd),
    )


def _draw_floor(axes: Any, sweep: Sweep, metric: str) -> None:
    floors = {
        point.value: point.quality.scores[metric].floor
        for points in sweep.values()
        for point in points
        if point.quality is not None and metric in point.quality.scores
    }
    x = np.array(sorted(floors))
    axes.plot(
        x,
        [floors[value] for value in x],
        color="0.35",
        linestyle="--",
        linewidth=1.2,
        label="noise floor",
    )
