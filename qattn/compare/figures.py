"""Pictures of all samplers on one set of problems, and the colours and markers of samplers."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from qattn.compare.results import SamplerResult, SetResult
from qattn.quality import METRICS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float64]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#999999")
"""Okabe and Ito's palette, safe for colour-blind readers; markers and dashes differ too."""

MARKERS = "osD^vPX*<"
"""One more than colours, so that their pairs repeat late."""

FAR_LEFT = 0.3
"""Ratios below this, which only figures that may be negative reach, are drawn here."""


def style(index: int) -> dict[str, Any]:
    """Colour and marker of the sampler at this place."""
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}


def wrapped(label: str) -> str:
    """A long label on several lines, for the title of a panel."""
    lines, line = [], ""
    for piece in label.replace(":", ":\n", 1).replace(" + ", "\n+ ").splitlines():
        for part in piece.split(","):
            if line and len(line) + len(part) > 24:
                lines.append(line)
                line = ""
            line += ("," if line else "") + part
        lines.append(line)
        line = ""
    return "\n".join(lines)


def logarithmic(axes: Any, name: str) -> None:
    """A logarithmic axis, "x" or "y", with ticks at 1, 2 and 5."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set(**{f"{name}scale": "log"})
    axis = getattr(axes, f"{name}axis")
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def legend_above(figure: "Figure", axes: Any, entries: int) -> None:
    """The legend of these axes above the whole figure."""
    handles, labels = axes.get_legend_handles_labels()
    columns = 2 if max(map(len, labels)) > 24 else min(entries, 4)
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, fontsize=8)


def summary_figure(judged: list[SamplerResult]) -> "Figure":
    """Ratio of every figure and sampler to the floor; bands show the spread of exact reads."""
    from matplotlib.figure import Figure

    scores = [result.quality.scores for result in judged if result.quality is not None]
    names = [name for name in METRICS if any(name in of_sampler for of_sampler in scores)]
    figure = Figure(figsize=(9.5, 0.55 * len(names) + 1.9), layout="constrained")
    axes: Any = figure.subplots()
    offsets = np.linspace(-0.3, 0.3, len(judged)) if len(judged) > 1 else [0.0]
    for row, name in enumerate(names):
        error = next(of_sampler[name].ratio_error for of_sampler in scores if name in of_sampler)
        for reach, alpha in ((2 * error, 0.18), (error, 0.25)):
            left = max(1 - reach, FAR_LEFT)
            axes.barh(row, 1 + reach - left, 0.8, left=left, color="0.5", alpha=alpha, zorder=0)
    for index, (result, of_sampler) in enumerate(zip(judged, scores, strict=True)):
        ratios = np.array([of_sampler[n].ratio if n in of_sampler else math.nan for n in names])
        rows = np.flatnonzero(np.isfinite(ratios))
        axes.plot(
            ratios[rows].clip(FAR_LEFT),
            rows + offsets[index],
            linestyle="none",
            markersize=6,
            label=result.label,
            **style(index),
        )
    axes.axvline(1, color="black", linewidth=0.8)
    logarithmic(axes, "x")
    axes.set_yticks(range(len(names)), [METRICS[name].label for name in names])
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3, which="both")
    axes.set_xlabel("figure / its noise floor (bands: one and two sd of independent exact reads)")
    legend_above(figure, axes, len(judged))
    return figure


def energies_figure(set_result: SetResult, judged: list[SamplerResult]) -> "Figure":
    """Histograms of the energy in each problem's own units, and their difference from exact."""
    from matplotlib.figure import Figure

    distributions = set_result.reference.energies
    edges = np.linspace(-2.5, 4.0, 40)
    middle, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    unit = len(distributions) * width
    exact = np.zeros(len(middle))
    for d in distributions:
        scaled = (d.values - d.mean) / (d.sd or 1.0)
        exact += np.histogram(scaled, edges, weights=d.probabilities)[0] / unit
    figure = Figure(figsize=(8.5, 6.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    of_reference = "exact" if set_result.reference.is_exact else "long run"
    above.fill_between(middle, exact, step="mid", color="0.82", zorder=0, label=of_reference)
    furthest = []
    for index, result in enumerate(judged):
        density, error = _energy_density(set_result, result, edges)
        look = style(index)
        above.step(middle, density, where="mid", color=look["color"], linewidth=1.2)
        shift = (index - (len(judged) - 1) / 2) * width / (1.5 * len(judged))
        below.errorbar(
            middle + shift,
            density - exact,
            error,
            linestyle="none",
            markersize=3.5,
            elinewidth=0.9,
            label=result.label,
            **look,
        )
        furthest.append(np.abs(density - exact).max())
    below.axhline(0, color="black", linewidth=0.8)
    limit = max(3 * float(np.median(furthest)), 1e-3)
    below.set_ylim(-limit, limit)  # one bad sampler must not hide the others
    above.set_ylabel("density")
    below.set_ylabel(f"density - {of_reference}")
    below.set_xlabel("(βE - mean) / standard deviation, exact values of each problem")
    for axes in (above, below):
        axes.grid(alpha=0.3)
    legend_above(figure, below, len(judged))
    return figure


def _energy_density(
    set_result: SetResult, result: SamplerResult, edges: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Density of the reads' energies, all problems alike, and its standard error."""
    samples = result.samples
    assert samples is not None
    E = set_result.reference.batch.energies(samples.spins)[:, 0].numpy()
    weights = samples.normalized_weights(torch.float64)[:, 0].numpy()
    reads = samples.counts()[:, 0].numpy()
    density, variance = np.zeros(len(edges) - 1), np.zeros(len(edges) - 1)
    for p, d in enumerate(set_result.reference.energies):
        scaled = (E[p] - d.mean) / (d.sd or 1.0)
        share = np.histogram(scaled, edges, weights=weights[p])[0]
        density += share
        variance += (share * (1 - share)).clip(0) / reads[p]
    unit = len(E) * (edges[1] - edges[0])
    return density / unit, np.sqrt(variance) / unit
