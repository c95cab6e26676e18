"""The end against the length of the context with fits, and the gain over the first arm."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qattn.compare.figures.style import logarithmic
from qattn.experiments.figures.style import (
    gains,
    legend,
    looks,
    metric_of,
    note_missing,
    over_seeds,
    panels,
    reference_arm,
)
from qattn.experiments.results import Results, TrainingResult
from qattn.experiments.statistics import FORMS, LEVEL, Fit
from qattn.training.plots.panels import grid_of_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Line:
    """Values of an arm at several lengths.

    Attributes:
        panel: Title of its panel: the parts that share all settings, and the point of the grid but
            for the length.
        part: Its part and point.
        arm: Label of the arm.
        quantity: The metric; or "gain over …" another arm with the same seeds, positive where the
            arm is better.
        values: Value of each seed, by length.
    """

    panel: str
    part: str
    arm: str
    quantity: str
    values: Mapping[int, Mapping[int, float]]

    @property
    def is_gain(self) -> bool:
        """Whether it is a difference of arms."""
        return self.quantity.startswith("gain")

    def fits(self) -> list[Fit]:
        """The forms that these lengths can fix; of a gain the logarithm alone, for its slope."""
        lengths = sorted(self.values)
        seeds = sorted({seed for values in self.values.values() for seed in values})
        table = [[self.values[T].get(seed, math.nan) for T in lengths] for seed in seeds]
        forms = ["logarithm"] if self.is_gain else list(FORMS)
        fixed = [form for form in forms if len(lengths) > len(FORMS[form].names)]
        return [Fit(form, [float(T) for T in lengths], table) for form in fixed]

    def drawn_fit(self) -> Fit | None:
        """The first form that the values do not refute, or the last one; None of few lengths.

        A power law at the edge of its exponents says no more than the logarithm.
        """
        fits = [fit for fit in self.fits() if not fit.at_edge]
        return next((f for f in fits if not f.lack_of_fit < LEVEL), fits[-1] if fits else None)


def lines(results: Results) -> Iterator[Line]:
    """The ends of every arm at each length, and its gains over the first arm of its part."""
    with_length = [training for training in results.trainings if "context" in training.point]
    for part, trainings in panels(with_length, along=["context"]).items():
        panel = part.replace(trainings[0].part, _alike(results, trainings[0].part), 1)
        metric, first = metric_of(trainings[0]), reference_arm(results, trainings[0].part)
        arms: dict[str, dict[int, TrainingResult]] = {}
        for training in trainings:
            arms.setdefault(training.arm, {})[training.point["context"]] = training
        for arm, at in arms.items():
            ends = {T: dict(zip(t.seeds, t.metrics[metric], strict=True)) for T, t in at.items()}
            yield Line(panel, part, arm, metric, ends)
            both = [T for T in at if T in arms.get(first, {})]
            if both and arm != first:
                differences = {T: gains(at[T], arms[first][T], metric) for T in both}
                yield Line(panel, part, arm, f"gain over {first} in {metric}", differences)


def _alike(results: Results, part: str) -> str:
    """Names of the parts that have all settings of this one, and may be drawn in one panel."""
    table = results.definition
    settings = {p.get("name", ""): p.get("settings", {}) for p in table.get("parts", [table])}
    return " and ".join(n for n, s in settings.items() if s == settings.get(part, {})) or part


def scaling(results: Results) -> "Figure | None":
    """Metric against T by arm with fits, and the gains over the first arm with the same seeds."""
    every = list(lines(results))
    titles = list(dict.fromkeys(line.panel for line in every))
    if not titles:
        return None
    look = looks(line.arm for line in every)
    figure, grid = grid_of_axes(len(titles), 2, 5.6, 4.0)
    for title, row in zip(titles, grid, strict=True):
        mine = [line for line in every if line.panel == title]
        for line in mine:
            axes = row[int(line.is_gain)]
            _draw(axes, line, look[line.arm])
            axes.set(ylabel=line.quantity)
        row[1].axhline(0, color="black", linewidth=0.8)
        for axes in row:
            logarithmic(axes, "x")
            axes.set_xticks(sorted({T for line in mine for T in line.values}))
            axes.set(xlabel="context T", title=title)
            axes.grid(alpha=0.3)
            legend(axes, fontsize=7)
    note_missing(figure, results)
    return figure


def _draw(axes: Any, line: Line, look: dict[str, Any]) -> None:
    """Means over seeds with 95% intervals, and the fit with its 95% band."""
    lengths = sorted(line.values)
    ends = [over_seeds(np.array(list(line.values[T].values()))) for T in lengths]
    mean, half = map(np.array, zip(*ends, strict=True))
    points = look | {"linestyle": "none"}
    fit = line.drawn_fit()
    named = any(name.partition(":")[0] == line.arm for name in axes.get_legend_handles_labels()[1])
    label = f"{line.arm}: {formula(fit)}" if fit else None if named else line.arm
    axes.errorbar(lengths, mean, np.nan_to_num(half), label=label, capsize=3, **points)
    if fit:
        T = np.geomspace(lengths[0], lengths[-1], 60)
        low, high = fit.band(T)
        curve = look | {"marker": "", "linewidth": 1}
        axes.plot(T, fit.at(T), **curve)
        if np.isfinite(low).all():
            axes.fill_between(T, low, high, color=look["color"], alpha=0.12, linewidth=0)


def formula(fit: Fit) -> str:
    """The fitted curve with its numbers.

    >>> formula(Fit("logarithm", [4.0, 8.0, 16.0], [[7.0, 6.5, 6.0]]))
    '8 − 0.7213 ln T'
    """
    text = fit.formula
    for name, value in fit.parameters.items():
        text = text.replace(name, f"{value:.4g}", 1)
    return text.replace("+ -", "− ").replace("^--", "^").replace("-", "−")
