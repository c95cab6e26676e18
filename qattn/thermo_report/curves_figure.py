"""Curves against β: the quantities of several systems, with their peaks and the working point."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qattn.compare.figures.style import COLOURS, legend_above, logarithmic
from qattn.thermo_report.results import Average, Section, System

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DASHES = ("-", "--", "-.", ":")
"""Dashes change where the colours begin anew."""

COLUMNS = 3
"""Panels in a row of a picture of problems."""


def curves_figure(section: Section) -> "Figure":
    """Every quantity against β: the mean over queries, a band of their quartiles, bars of reads.

    Problems: a panel for each quantity, a line for each set. A run: a row for each layer, a line
    for each head, grey dashes for all of them without couplings. The black line is the working
    point, β = 1; dots and their bars are peaks with the standard error of their place.
    """
    from matplotlib.figure import Figure

    names = section.drawn
    blocks = len(section.rows)
    wrapped = not section.together
    columns, rows = len(names), blocks
    if wrapped:
        columns, rows = COLUMNS, -(-len(names) // COLUMNS)
    size = ((3.4 if wrapped else 2.6) * columns + 0.4, 2.5 * rows + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    grid: Any = figure.subplots(rows, columns, squeeze=False, sharex=True)
    panels = grid.reshape(blocks, -1)[:, : len(names)]
    for number, (systems, line) in enumerate(zip(section.rows, panels, strict=True)):
        for name, axes in zip(names, line, strict=True):
            label = systems[0].quantities[name].label
            for index, system in enumerate(systems):
                style = look(index, system.label or system.name)
                draw(axes, system.betas, system.curves[name], style, shade(len(systems)))
                mark(axes, system, name, style["color"])
            for free in section.uncoupled[number : number + 1]:
                style = {"color": "0.45", "linestyle": "--", "label": "J = 0", "zorder": 1.5}
                draw(axes, free.betas, free.curves[name], style, 0.0)
                mark(axes, free, name, style["color"])
            axes.axvline(1, color="black", linewidth=0.8, zorder=0)
            axes.set_ylim(bottom=max(axes.get_ylim()[0], systems[0].quantities[name].floor))
            beta_axis(axes, systems[0])
            axes.grid(alpha=0.3)
            axes.tick_params(labelsize=8)
            axes.set_ylabel(label if wrapped else "", fontsize=9)
            if not wrapped and number == 0:
                axes.set_title(label, fontsize=9)
        if not wrapped:
            line[0].set_ylabel(f"layer {number}", fontsize=9)
    for axes in grid[-1]:
        axes.set_xlabel("β (1: working point)", fontsize=9)
    for axes in grid.flat[len(names) * blocks :]:
        axes.set_visible(False)
    legend_above(figure, panels[0][0])
    return figure


def draw(axes: Any, x: Any, average: Average, style: Mapping[str, Any], alpha: float) -> None:
    """The mean as a line, quartiles as a band, and bars where values come from reads."""
    if alpha:
        band = {"color": style["color"], "alpha": alpha, "linewidth": 0}
        axes.fill_between(x, average.low, average.high, **band)
    axes.plot(x, average.mean, linewidth=1.3, **style)
    if np.nan_to_num(average.error).any():
        bars = {"linestyle": "none", "elinewidth": 0.9, "color": style["color"]}
        axes.errorbar(x, average.mean, average.error, **bars)


def shade(number: int) -> float:
    """How opaque a band is where there are so many."""
    return max(0.04, 0.26 / (1 + number))


def mark(axes: Any, system: System, name: str, colour: str) -> None:
    """A dot where a curve peaks inside the range, and a bar of the standard error of its place."""
    critical = system.critical.get(name)
    if critical is None or critical.at_edge:
        return
    height = np.interp(critical.value, system.betas, system.curves[name].mean)
    axes.errorbar(
        critical.value,
        height,
        xerr=critical.standard_error,
        fmt="o",
        markersize=4.5,
        markeredgecolor="white",
        markeredgewidth=0.5,
        elinewidth=1.4,
        color=colour,
        zorder=4,
    )


def look(index: int, label: str) -> dict[str, Any]:
    """Colour and dashes of the system at this place."""
    turn, place = divmod(index, len(COLOURS))
    return {"color": COLOURS[place], "linestyle": DASHES[turn % len(DASHES)], "label": label}


def beta_axis(axes: Any, system: System) -> None:
    """A logarithmic axis where the values of β are spread out like that."""
    betas = system.betas[system.betas > 0]
    if betas[-1] > 20 * betas[0] and np.ptp(np.diff(betas)) > 0.5 * np.diff(betas).max():
        logarithmic(axes, "x")
    axes.set_xlim(betas[0], betas[-1])


def correlations_figure(section: Section) -> "Figure":
    """Connected correlations at the working point by distance, a panel for each layer."""
    from matplotlib.figure import Figure

    rows: Sequence[list[System]] = [
        [s for s in systems if s.correlations is not None] for systems in section.rows
    ]
    columns = len(rows)
    figure = Figure(figsize=(max(3.6 * columns, 5.2), 3.3), layout="constrained")
    grid: Any = figure.subplots(1, columns, squeeze=False, sharey=True)[0]
    for number, (systems, axes) in enumerate(zip(rows, grid, strict=True)):
        for index, system in enumerate(systems):
            assert system.correlations is not None
            distances = 1 + np.arange(len(system.correlations.mean))
            style = look(index, system.label or system.name) | {"marker": "o", "markersize": 3}
            draw(axes, distances, system.correlations, style, shade(len(systems)))
        axes.axhline(0, color="black", linewidth=0.6)
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel("distance |j − k|", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        if columns > 1:
            axes.set_title(f"layer {number}", fontsize=9)
    grid[0].set_ylabel("⟨ss⟩ − ⟨s⟩⟨s⟩ at β = 1", fontsize=9)
    legend_above(figure, grid[0])
    return figure
