"""Pictures of all samplers on one set of problems: ratios to the floor, and energies."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from qattn.compare.figures.style import legend_above, logarithmic, style
from qattn.compare.results import SamplerResult, SetResult
from qattn.quality import METRICS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float64]

FAR_LEFT = 0.3
"""Ratios below this, which only figures that may be negative reach, are drawn here."""


OFF_SCALE = 5.0
"""Differences of energies this many times larger than the best sampler's leave the frame."""


def summary_figure(judged: list[SamplerResult]) -> "Figure":
    """Ratio of every figure and sampler to the floor; bands show the spread of exact reads."""
    from matplotlib.figure import Figure

    scores = [result.quality.scores for result in judged if result.quality is not None]
    names = [name for name in METRICS if any(name in of_sampler for of_sampler in scores)]
    figure = Figure(figsize=(9.5, 0.55 * len(names) + 1.9), layout="constrained")
    axes: Any = figure.subplots()
    offsets = np.linspace(-0.3, 0.3, len(judged)) if len(judged) > 1 else [0.0]
    for row, name in enumerate(names):
        of_floor = next(of_sampler[name] for of_sampler in scores if name in of_sampler)
        for reach, alpha in ((of_floor.spread(0.95), 0.18), (of_floor.spread(0.68), 0.25)):
            left = max(1 - reach, FAR_LEFT)
            axes.barh(row, 1 + reach - left, 0.8, left=left, color="0.5", alpha=alpha, zorder=0)
    for index, (result, of_sampler) in enumerate(zip(judged, scores, strict=True)):
        ratios = np.array([of_sampler[n].ratio if n in of_sampler else math.nan for n in names])
        errors = np.array([of_sampler[n].error if n in of_sampler else math.nan for n in names])
        rows = np.flatnonzero(np.isfinite(ratios))
        drawn = ratios[rows].clip(FAR_LEFT)
        reach = np.nan_to_num(errors[rows])
        axes.errorbar(
            drawn,
            rows + offsets[index],
            xerr=[np.minimum(reach, drawn - FAR_LEFT), reach],
            linestyle="none",
            markersize=5,
            elinewidth=0.9,
            label=result.label,
            **style(index),
        )
    axes.axvline(1, color="black", linewidth=0.8)
    logarithmic(axes, "x")
    if axes.get_xlim()[0] <= FAR_LEFT:
        axes.set_xlim(left=0.85 * FAR_LEFT)  # whole markers at the left edge
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_yticks(range(len(names)), [METRICS[name].label for name in names])
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3, which="both")
    axes.set_xlabel(
        "figure / its noise floor (bands: 68% and 95% of independent exact reads; "
        "bars: 95% over problems)"
    )
    legend_above(figure, axes)
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
    of_reference = "exact" if set_result.reference.is_exact else "tempering"
    above.fill_between(middle, exact, step="mid", color="0.82", zorder=0, label=of_reference)
    furthest: list[float] = []
    for index, result in enumerate(judged):
        density, error = _energy_density(set_result, result, edges)
        look = style(index)
        above.step(
            middle,
            density,
            where="mid",
            color=look["color"],
            linewidth=2.6 - 1.6 * index / len(judged),
        )
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
        furthest.append(float((np.abs(density - exact) + error).max()))
    below.axhline(0, color="black", linewidth=0.8)
    # One bad sampler must not hide the others: it leaves the frame, which says so.
    shown = [reach for reach in furthest if reach <= OFF_SCALE * min(furthest)]
    limit = 1.1 * max(*shown, 1e-3)
    below.set_ylim(-limit, limit)
    if beyond := [r.label for r, x in zip(judged, furthest, strict=True) if x not in shown]:
        text = f"leaves the frame: {'; '.join(beyond)}"
        below.text(0.99, 0.03, text, transform=below.transAxes, fontsize=7, ha="right")
    above.set_ylabel("density")
    below.set_ylabel(f"density - {of_reference}")
    below.set_xlabel("(βE - mean) / standard deviation, exact values of each problem")
    for axes in (above, below):
        axes.grid(alpha=0.3)
    legend_above(figure, below)
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
