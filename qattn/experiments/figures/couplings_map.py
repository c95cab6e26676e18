"""Learned couplings: the map of each layer, and their means by distance."""

from typing import TYPE_CHECKING, Any

import numpy as np

from qattn.experiments.figures.style import note_missing, over_seeds, place
from qattn.experiments.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RANGES = {"2 to 4": (1.5, 4.5), "6 and more": (5.5, None)}
"""Distances at which the paper finds positive, and negative couplings."""


def couplings_map(results: Results) -> "Figure | None":
    """J averaged over seeds and heads, layer by layer; and by distance with intervals over seeds.

    A row for each arm that has couplings; the bands are the distances that the paper speaks of.
    """
    from matplotlib.figure import Figure

    shown = [t for t in results.trainings if "map" in t.measures.get("couplings", {})]
    if not shown:
        return None
    layers = max(len(t.measures["couplings"]["map"]) for t in shown)
    size = (2.7 * layers + 6.2, 2.9 * len(shown))
    figure = Figure(figsize=size, layout="constrained")
    ratios = [*[1.0] * layers, 1.5]
    grid: Any = figure.subplots(len(shown), layers + 1, squeeze=False, width_ratios=ratios)
    for training, row in zip(shown, grid, strict=True):
        measured = training.measures["couplings"]
        maps = np.array(measured["map"], dtype=float)
        limit = np.abs(maps).max() or 1.0
        for layer, axes in enumerate(row[:-1]):
            axes.set_visible(layer < len(maps))
            if layer < len(maps):
                image = axes.imshow(maps[layer], cmap="RdBu_r", vmin=-limit, vmax=limit)
                axes.set_title(f"layer {layer}", fontsize=9)
                axes.set_xlabel("position k", fontsize=9)
                axes.locator_params(integer=True)
        row[0].set_ylabel(f"{training.arm}\nposition j", fontsize=9)
        figure.colorbar(image, ax=row[len(maps) - 1], label="mean $J_{jk}$", shrink=0.8)
        _by_distance(row[-1], measured)
        row[-1].set_title(place(training) or training.arm, fontsize=9)
    note_missing(figure, results)
    return figure


def _by_distance(axes: Any, measured: dict[str, Any]) -> None:
    """Mean J at each distance with 95% intervals, beside what it was at the start."""
    values = np.array(measured["by_distance"], dtype=float).T
    distances = np.arange(1, len(values) + 1)
    for label, (first, last) in RANGES.items():
        if first < len(values) + 0.5:
            end = len(values) + 0.5 if last is None else last
            grey = "0.85" if last else "0.93"
            axes.axvspan(first, end, color=grey, zorder=0, label=f"distance {label}")
    axes.axhline(0, color="black", linewidth=0.8)
    if "by_distance_at_start" in measured:
        first = np.array(measured["by_distance_at_start"], dtype=float).mean(0)
        axes.plot(distances, first, color="0.5", linestyle="--", label="at the start")
    mean, half = over_seeds(values)
    axes.errorbar(
        distances,
        mean,
        np.nan_to_num(half),
        color="#0072B2",
        marker="o",
        capsize=3,
        label="learned",
    )
    axes.set(xlabel="distance of the positions", ylabel="mean J")
    axes.locator_params(axis="x", integer=True)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    axes.grid(alpha=0.3)
