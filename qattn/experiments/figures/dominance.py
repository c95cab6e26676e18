"""Softmax attention against β: heat capacity, largest weight, and what predicts the peak."""

from typing import TYPE_CHECKING, Any

import numpy as np

from qattn.compare.figures.style import COLOURS, logarithmic
from qattn.experiments.figures.style import legend, note_missing, place
from qattn.experiments.results import Results
from qattn.training.plots.panels import grid_of_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PREDICTIONS = {
    "rem_beta": ("random energy model", "o", COLOURS[0]),
    "gap_beta": ("counting gaps", "^", COLOURS[1]),
}
"""Predictions of the critical β, and how they are drawn."""


def dominance(results: Results) -> "Figure | None":
    """C and the largest weight of each head against β, and predicted against found peaks.

    A row for each training. Curves are means over seeds, a colour for each layer; ticks at the
    bottom are the peaks of all seeds.
    """
    shown = [t for t in results.trainings if t.measures.get("dominance")]
    if not shown:
        return None
    figure, grid = grid_of_axes(len(shown), 3, 4.8, 3.6)
    for training, (left, middle, right) in zip(shown, grid, strict=True):
        measured = training.measures["dominance"]
        for axes, name in ((left, "heat_capacity"), (middle, "largest_weight")):
            _curves(axes, measured, name)
        _peaks(left, measured)
        left.set_ylabel("heat capacity C")
        middle.set_ylabel("largest weight")
        left.set_title(", ".join(filter(None, (place(training), training.arm))), fontsize=10)
        legend(left, fontsize=7)
        _predictions(right, measured)
    note_missing(figure, results)
    return figure


def _curves(axes: Any, measured: dict[str, Any], name: str) -> None:
    """A curve for each head, and the working point of a model whose β is fixed."""
    for layer, heads in enumerate(measured[name]):
        for head, values in enumerate(heads):
            label = f"layer {layer}" if head == 0 else None
            axes.plot(measured["betas"], values, color=COLOURS[layer], label=label, linewidth=1)
    axes.axvline(1, color="black", linestyle=":", linewidth=1, label="1/√d")
    logarithmic(axes, "x")
    axes.set_xlabel("β in units of 1/√d")
    axes.grid(alpha=0.3)


def _peaks(axes: Any, measured: dict[str, Any]) -> None:
    """Ticks at the peaks of all seeds."""
    found = np.array(measured["critical_beta"], dtype=float)  # by member, layer and head
    for layer in range(found.shape[1]):
        places = found[:, layer].ravel()
        axes.plot(places, np.zeros(len(places)), "|", color=COLOURS[layer], alpha=0.6)


def _predictions(axes: Any, measured: dict[str, Any]) -> None:
    """Predicted against found β_c of every head and seed."""
    found = np.array(measured["critical_beta"], dtype=float).ravel()
    for name, (label, marker, colour) in PREDICTIONS.items():
        values = np.array(measured[name], dtype=float).ravel()
        axes.plot(found, values, marker, color=colour, alpha=0.5, markersize=4, label=label)
    ends = np.nanmin(found), np.nanmax(found)
    axes.plot(ends, ends, color="black", linewidth=0.8)
    for name in "xy":
        logarithmic(axes, name)
    axes.set(xlabel="β at the peak of C", ylabel="predicted β")
    legend(axes, fontsize=7)
    axes.grid(alpha=0.3)
