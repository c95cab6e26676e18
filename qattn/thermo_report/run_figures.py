"""Pictures of a run's layers and heads: the working point against its peaks, and regimes."""

from typing import TYPE_CHECKING, Any

import numpy as np

from qattn.compare.figures.style import COLOURS, MARKERS, legend_above, logarithmic
from qattn.thermo_report.results import Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REGIME_COLOURS = {"averaging": "#56B4E9", "clustered": "#E69F00", "retrieval": "#D55E00"}
"""Colours of the regimes."""


def working_point_figure(section: Section) -> "Figure":
    """β of each peak for every head, beside the working point β = 1.

    A peak that the range does not hold is an open triangle at the end where the curve is highest.
    """
    from matplotlib.figure import Figure

    systems = section.systems
    names = [name for name in section.drawn if name in systems[0].critical]
    figure = Figure(figsize=(max(5.2, 0.55 * len(systems) + 2.2), 3.4), layout="constrained")
    axes: Any = figure.subplots()
    x = np.arange(len(systems))
    for index, name in enumerate(names):
        peaks = [system.critical[name] for system in systems]
        at_edge = np.array([peak.at_edge for peak in peaks])
        highest = [s.betas[np.nanargmax(s.curves[name].mean)] for s in systems]
        values = np.where(at_edge, highest, [peak.value for peak in peaks])
        errors = np.array([peak.standard_error for peak in peaks])
        colour, shift = COLOURS[index], 0.16 * (index - (len(names) - 1) / 2)
        look = {"color": colour, "linestyle": "none", "markersize": 5}
        axes.errorbar(
            (x + shift)[~at_edge],
            values[~at_edge],
            errors[~at_edge],
            marker=MARKERS[index],
            label=f"peak of {systems[0].quantities[name].symbol}",
            **look,
        )
        for place in np.flatnonzero(at_edge):
            up = values[place] > 1
            axes.plot(place + shift, values[place], "^" if up else "v", fillstyle="none", **look)
    axes.axhline(1, color="black", linewidth=0.9, label="working point")
    ends = np.cumsum([len(row) for row in section.rows])
    for layer, free in enumerate(section.uncoupled):
        if not free.critical["heat_capacity"].at_edge:
            span = (ends[layer] - len(section.rows[layer]) - 0.4, ends[layer] - 0.6)
            line = {"color": COLOURS[0], "linestyle": "--", "linewidth": 1}
            label = {} if layer else {"label": "peak of C/n without couplings"}
            axes.plot(span, [free.critical["heat_capacity"].value] * 2, **line, **label)
    logarithmic(axes, "y")
    axes.set_ylim(0.8 * systems[0].betas[0], 1.25 * systems[0].betas[-1])
    axes.set_xticks(x, [system.name for system in systems], fontsize=8)
    for end in ends[:-1]:
        axes.axvline(end - 0.5, color="0.6", linewidth=0.8)
    axes.set_xlabel("layer.head", fontsize=9)
    axes.set_ylabel("β of the peak", fontsize=9)
    axes.grid(axis="y", alpha=0.3)
    legend_above(figure, axes)
    return figure


def regimes_figure(section: Section) -> "Figure":
    """Median number of positions with 0.9 of the weight by layer and head; shares of regimes."""
    from matplotlib.figure import Figure

    systems, layers = section.systems, len(section.rows)
    heads = max(len(row) for row in section.rows)
    width = max(7.5, 0.7 * heads + 0.45 * len(systems) + 4)
    figure = Figure(figsize=(width, max(3.2, 0.5 * layers + 1.6)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(0.7 * heads + 1.5, 0.45 * len(systems) + 1.5))
    counts = np.full((layers, heads), np.nan)
    for layer, row in enumerate(section.rows):
        counts[layer, : len(row)] = [np.nan if s.attended is None else s.attended for s in row]
    largest = max(system.sizes[1] for system in systems)
    image = left.imshow(counts, cmap="viridis", vmin=1, vmax=largest, aspect="auto")
    for (layer, head), value in np.ndenumerate(counts):
        colour = "black" if value > 0.6 * largest else "white"
        left.text(head, layer, f"{value:g}", color=colour, ha="center", va="center", fontsize=9)
    left.set_xticks(range(heads))
    left.set_yticks(range(layers))
    left.set(xlabel="head", ylabel="layer")
    bar = figure.colorbar(image, ax=left)
    bar.set_label(f"median k (of n ≤ {largest}) with 0.9 of the weight", fontsize=8)
    bottom = np.zeros(len(systems))
    x = np.arange(len(systems))
    for regime, colour in REGIME_COLOURS.items():
        shares = np.array([system.regimes.get(regime, 0.0) for system in systems])
        right.bar(x, shares, 0.8, bottom=bottom, color=colour, label=regime)
        bottom += shares
    right.set_xticks(x, [system.name for system in systems], fontsize=8)
    right.set(ylim=(0, 1), xlabel="layer.head", ylabel="share of queries")
    legend_above(figure, right)
    return figure
