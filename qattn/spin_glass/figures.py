"""Pictures of a ladder: free energies, curves, overlaps, and both effective shares of reads."""

from typing import TYPE_CHECKING, Any

from qattn.compare.figures.style import COLOURS, legend_above
from qattn.spin_glass.results import Ladder, Section
from qattn.spin_glass.table import excess

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 4
"""Problems that pictures show, the first ones."""

CURVES = {"energy": "U/n", "heat_capacity": "C/n", "entropy": "S/n (nats)"}
"""What is drawn against β beside F, per spin."""

VERDICTS = {"usable with weights": "o", "too few effective reads": "v", "collapsed": "X"}
"""Markers."""


def figures_of(section: Section) -> dict[str, "Figure"]:
    """The pictures by name."""
    found = {"free_energy": free_energy_figure(section), "curves": curves_figure(section)}
    if any(ladder.overlaps for ladder in section.ladders):
        found["overlaps"] = overlaps_figure(section)
    return found | {"effective_reads": effective_reads_figure(section)}


def free_energy_figure(section: Section) -> "Figure":
    """F of the reference and by weighted reads; what the bound and the reads are above it."""
    figure, (left, middle, right) = _panels(3, (10.6, 3.5))
    for index, ladder in _shown(section):
        _compare(left, ladder, "free_energy", index)
        errors = [excess(ladder, b) for b in range(len(section.betas))]
        for axes, values in zip((middle, right), zip(*errors, strict=True), strict=True):
            value, error = zip(*values, strict=True)
            axes.errorbar(section.betas, value, error, **_dots(index), linestyle="-")
    left.set_ylabel("F/n")
    middle.set_ylabel("$(F_q - F)/n$, the bound")
    right.set_ylabel("$(F_w - F)/n$, weighted reads")
    for axes in (middle, right):
        axes.axhline(0, color="black", linewidth=0.8, zorder=0)
    _finish(figure, left, [left, middle, right])
    return figure


def curves_figure(section: Section) -> "Figure":
    """Energy, heat capacity and entropy."""
    figure, panels = _panels(len(CURVES), (10.6, 3.5))
    for (name, label), axes in zip(CURVES.items(), panels, strict=True):
        for index, ladder in _shown(section):
            _compare(axes, ladder, name, index)
        axes.set_ylabel(label)
    _finish(figure, panels[0], panels)
    return figure


def overlaps_figure(section: Section) -> "Figure":
    """P(q) as a density: a row for each problem, a column for each β."""
    from matplotlib.figure import Figure

    shown = [(index, ladder) for index, ladder in _shown(section) if ladder.overlaps]
    betas = list(shown[0][1].overlaps)
    size = (3.4 * len(betas) + 0.4, 2.3 * len(shown) + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    grid: Any = figure.subplots(len(shown), len(betas), squeeze=False, sharex=True)
    for row, (index, ladder) in zip(grid, shown, strict=True):
        for axes, (beta, one) in zip(row, ladder.overlaps.items(), strict=True):
            density = ladder.num_spins / 2
            low, high = (density * (one.reference + sign * one.reference_error) for sign in (-1, 1))
            axes.fill_between(one.q, low, high, color="0.6", linewidth=0)
            axes.plot(one.q, density * one.reference, color="0.6", linewidth=1, label="reference")
            values, errors = density * one.sampler, density * one.sampler_error
            style = _dots(index) | {"markersize": 2, "elinewidth": 0.6, "label": "sampler"}
            axes.errorbar(one.q, values, errors, **style, linestyle="none")
            text = f"distance {one.distance:.3f}, noise {one.noise:.3f}"
            axes.text(0.5, 0.97, text, transform=axes.transAxes, ha="center", va="top", fontsize=7)
            axes.set_ylim(0, 1.6 * float(density * one.reference.max()))
            axes.grid(alpha=0.3)
            axes.tick_params(labelsize=8)
            if index == 0:
                axes.set_title(f"β = {beta:.3g}", fontsize=9)
        row[0].set_ylabel(f"P(q), problem {index + 1}", fontsize=9)
    for axes in grid[-1]:
        axes.set_xlabel("overlap q", fontsize=9)
    legend_above(figure, grid[0, 0])
    return figure


def effective_reads_figure(section: Section) -> "Figure":
    """ESS and forward ESS, and the share of p that was lost, with markers for verdicts."""
    figure, (left, right) = _panels(2, (9.0, 3.7))
    for index, ladder in _shown(section):
        colour = COLOURS[index % len(COLOURS)]
        forward = [max(one.forward_ess, 1e-6) for one in ladder.judged]
        left.plot(section.betas, [one.ess for one in ladder.judged], color=colour, linestyle="--")
        left.plot(section.betas, forward, color=colour, label=_name(index))
        lost = [one.lost for one in ladder.judged]
        error = [one.lost_error for one in ladder.judged]
        right.errorbar(section.betas, lost, error, **_dots(index) | {"marker": "None"})
        for beta, one, high in zip(section.betas.tolist(), ladder.judged, forward, strict=True):
            marker = {"marker": VERDICTS[one.verdict], "color": colour, "markersize": 6}
            left.plot(beta, high, **marker, markeredgecolor="white", markeredgewidth=0.5)
            right.plot(beta, one.lost, **marker, markeredgecolor="white", markeredgewidth=0.5)
    for verdict, shape in VERDICTS.items():
        left.plot([], [], marker=shape, color="0.4", linestyle="none", label=verdict)
    left.plot([], [], color="0.4", linestyle="--", label="ESS, own reads")
    left.plot([], [], color="0.4", label="forward ESS")
    left.set(yscale="log", ylabel="effective share of reads")
    left.set_ylim(min(0.05, left.get_ylim()[0]), 1.5)  # at least a decade, for its ticks
    right.set_ylabel("share of p that is lost")
    right.axhline(0, color="black", linewidth=0.8, zorder=0)
    _finish(figure, left, [left, right])
    return figure


def _shown(section: Section) -> list[tuple[int, Ladder]]:
    return list(enumerate(section.ladders[:SHOWN]))


def _panels(columns: int, size: tuple[float, float]) -> tuple["Figure", Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(1, columns)


def _compare(axes: Any, ladder: Ladder, name: str, index: int) -> None:
    """The reference as a line and a band of its errors, weighted reads as dots with bars."""
    value, error, exactly, own = (x / ladder.num_spins for x in ladder.of(name))
    betas, colour = ladder.curves.betas, COLOURS[index % len(COLOURS)]
    axes.plot(betas, exactly, color=colour, linewidth=1.1, alpha=0.7)
    axes.fill_between(betas, exactly - own, exactly + own, color=colour, alpha=0.25, linewidth=0)
    axes.errorbar(betas, value, error, **_dots(index), linestyle="none")


def _dots(index: int) -> dict[str, Any]:
    colour = COLOURS[index % len(COLOURS)]
    return {
        "color": colour,
        "marker": "o",
        "markersize": 3.5,
        "elinewidth": 1.0,
        "linewidth": 0.8,
        "label": _name(index),
    }


def _name(index: int) -> str:
    return f"problem {index + 1}"


def _finish(figure: "Figure", labelled: Any, panels: Any) -> None:
    for axes in panels:
        axes.set_xlabel("β", fontsize=9)
        axes.yaxis.label.set_size(9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
    legend_above(figure, labelled)
