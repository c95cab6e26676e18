"""What models of the task brackets expect where a bracket closes."""

from typing import TYPE_CHECKING, Any

import numpy as np

from qattn.experiments.figures.style import looks, note_missing, over_seeds, place
from qattn.experiments.results import Results, TrainingResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS = {"by_position": "position of the closing bracket", "by_distance": "distance to its partner"}
"""Rows of panels, and what is on their axis."""

HEADINGS = {"right": "the type that is due", "wrong": "another type", "opening": "an opening one"}
"""Classes of brackets as the panels name them."""


def outputs(results: Results) -> "Figure | None":
    """Probabilities of the right closing type, of wrong ones and of opening, by arm.

    Means over validation words, with 95% intervals over seeds; below, the whole distribution of
    each arm at every position of one word.
    """
    from matplotlib.figure import Figure

    shown = [t for t in results.trainings if "by_position" in t.measures.get("outputs", {})]
    if not shown:
        return None
    names = [f"{t.arm}, {place(t)}" if len({place(t) for t in shown}) > 1 else t.arm for t in shown]
    figure = Figure(figsize=(12, 6.4 + 1.9 * -(-len(shown) // 2)), layout="constrained")
    two: Any = figure.subfigures(2, 1, height_ratios=(6.0, 1.9 * -(-len(shown) // 2)))
    means, words = two
    _probabilities(means, dict(zip(names, shown, strict=True)))
    _example(words, dict(zip(names, shown, strict=True)))
    note_missing(means, results)
    return figure


def _probabilities(figure: Any, shown: dict[str, TrainingResult]) -> None:
    look = looks(shown)
    grid = figure.subplots(len(ROWS), len(HEADINGS), squeeze=False, sharey="col")
    for (key, heading), row in zip(ROWS.items(), grid, strict=True):
        for axes, name in zip(row, HEADINGS, strict=True):
            for number, (label, training) in enumerate(shown.items()):
                measured = training.measures["outputs"]
                column = measured["classes"].index(name)
                distances = measured["distances"] if key == "by_distance" else None
                x, values = _closings(measured[key], column, distances)
                mean, half = over_seeds(values)
                shift = 0.06 * (number - (len(shown) - 1) / 2)  # so that error bars do not hide
                axes.errorbar(
                    x + shift, mean, np.nan_to_num(half), label=label, capsize=2, **look[label]
                )
            at, truth = _closings([measured["language"][key]], column, distances)
            axes.plot(at, truth[:, 0], color="0.4", linestyle=":", label="the language itself")
            axes.set(xlabel=heading, title=f"probability of {HEADINGS[name]}")
            axes.locator_params(axis="x", integer=True)
            axes.grid(alpha=0.3)
    grid[0][0].legend(fontsize=7)


def _closings(table: list[Any], column: int, x: list[int] | None) -> tuple[np.ndarray, np.ndarray]:
    """Where brackets close, and the probability of a class there, [place][member]."""
    places = [n for n in range(len(table[0])) if all(None not in member[n] for member in table)]
    values = np.array([[member[n][column] for member in table] for n in places], dtype=float)
    at = np.array([n if x is None else x[n] for n in places], dtype=float)
    return at, values.reshape(len(places), len(table))


def _example(figure: Any, shown: dict[str, TrainingResult]) -> None:
    grid = figure.subplots(-(-len(shown) // 2), 2, squeeze=False)
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    for axes, (label, training) in zip(grid.flat, shown.items(), strict=False):
        example = training.measures["outputs"]["example"]
        values = np.array(example["distribution"], dtype=float).T
        image = axes.imshow(values, cmap="Greys", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(values.shape[1]), example["word"], fontsize=8)
        axes.set_yticks(range(len(values)), example["symbols"], fontsize=7)
        axes.set_title(f"{label}: prediction of each symbol of this word", fontsize=8)
    figure.colorbar(image, ax=grid, label="probability", shrink=0.8)
