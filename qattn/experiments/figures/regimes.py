"""Regimes of queries by layer and head, before and after training."""

from typing import TYPE_CHECKING, Any

import numpy as np

from qattn.experiments.figures.style import note_missing, place
from qattn.experiments.results import Results
from qattn.training.plots.panels import grid_of_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#56B4E9", "#E69F00", "#D55E00")
"""From averaging, over clustered, to retrieval."""


def regimes(results: Results) -> "Figure | None":
    """Shares of queries in each regime, a bar for each head, one for the layer before training.

    A panel for each training. Shares are means over seeds; the numbers above the bars are the
    median k of the queries that see all positions, averaged over seeds.
    """
    shown = [t for t in results.trainings if "regimes" in t.measures]
    if not shown:
        return None
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    figure, grid = grid_of_axes(rows, columns, 6.0, 3.2)
    every = [axes for row in grid for axes in row]
    for axes in every[len(shown) :]:
        axes.set_visible(False)
    for training, axes in zip(shown, every, strict=False):
        _bars(axes, training.measures["regimes"])
        axes.set_title(", ".join(filter(None, (place(training), training.arm))), fontsize=10)
    handles, labels = every[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="outside upper center", ncols=3)
    note_missing(figure, results)
    return figure


def _bars(axes: Any, measured: dict[str, Any]) -> None:
    """The bars of one training, layer after layer."""
    after, before, median = (
        np.array(measured[name], dtype=float)
        for name in ("shares_of_heads", "shares_at_start", "median")
    )
    shares, k = np.nanmean(after, 0), median.mean(0)  # by layer, head and regime
    places, labels, heights = [], [], []
    for layer, heads in enumerate(shares):
        first = layer * (len(heads) + 2)
        places += [first + number for number in range(len(heads) + 1)]
        labels += [f"layer {layer}\nat the start", *(f"head {h}" for h in range(len(heads)))]
        heights += [np.nanmean(before, 0)[layer], *heads]
        for head, value in enumerate(k[layer]):
            axes.text(first + 1 + head, 1.02, f"{value:.1f}", ha="center", fontsize=7)
    bottom = np.zeros(len(places))
    for name, colour, values in zip(measured["classes"], COLOURS, np.array(heights).T, strict=True):
        axes.bar(places, values, 0.85, bottom, color=colour, label=name)
        bottom += values
    axes.set_xticks(places, labels, fontsize=7, rotation=45)
    axes.set(ylabel="share of queries", ylim=(0, 1.12))
