"""Pictures of a comparison on one set of problems."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qattn.compare.results import SamplerResult, SetResult
from qattn.quality import METRICS
from qattn.quality.apart import total_weights
from qattn.samples import SpinSamples

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float64]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#999999")
"""Okabe and Ito's palette, told apart by colour-blind eyes; markers and dashes differ too."""

MARKERS = "osD^vPX*"

COLUMNS = 4
"""Most panels in a row."""

FAR_LEFT = 0.3
"""Ratios below this, which only figures that may be negative reach, are drawn here."""

POINTS = 300
"""Most points with error bars in one scatter plot; they are taken at even distances."""


def plots(found: SetResult) -> dict[str, "Figure"]:
    """The pictures by name; those without data are left out."""
    judged = [result for result in found.results if result.quality is not None]
    if not judged:
        return {}
    figures = {
        "summary": summary(judged),
        "moments": moments(found, judged),
        "energies": energies(found, judged),
        "temperatures": temperatures(judged),
    }
    return figures


def style(index: int) -> dict[str, Any]:
    """Colour and marker of the sampler at this place."""
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}


def summary(judged: list[SamplerResult]) -> "Figure":
    """Ratio to the floor of every figure and sampler; the band is where exact reads lie."""
    from matplotlib.figure import Figure

    names = [name for name in METRICS if any(name in _scores(r) for r in judged)]
    figure = Figure(figsize=(9.5, 0.55 * len(names) + 1.9), layout="constrained")
    axes: Any = figure.subplots()
    offsets = np.linspace(-0.3, 0.3, len(judged)) if len(judged) > 1 else [0.0]
    for row, name in enumerate(names):
        error = next(_scores(r)[name].ratio_error for r in judged if name in _scores(r))
        for reach, alpha in ((2 * error, 0.18), (error, 0.25)):
            left = max(1 - reach, FAR_LEFT)
            axes.barh(row, 1 + reach - left, 0.8, left=left, color="0.5", alpha=alpha, zorder=0)
    for index, (result, offset) in enumerate(zip(judged, offsets, strict=True)):
        rows = [
            (row, _scores(result)[name])
            for row, name in enumerate(names)
            if name in _scores(result)
        ]
        axes.plot(
            [max(score.ratio, FAR_LEFT) for _, score in rows if math.isfinite(score.ratio)],
            [row + offset for row, score in rows if math.isfinite(score.ratio)],
            linestyle="none",
            markersize=6,
            label=result.label,
            **style(index),
        )
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(names)), [METRICS[name].label for name in names])
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3, which="both")
    axes.set_xlabel("figure / its noise floor (bands: one and two sd of independent exact reads)")
    axes.xaxis.set_major_formatter("{x:g}")
    _legend_above(figure, axes, len(judged))
    return figure


def moments(found: SetResult, judged: list[SamplerResult]) -> "Figure":
    """Magnetisations and correlations of the reads against those of the reference."""
    figure, grid = _panels(judged, 2.9, 2.9)
    active = found.reference.batch.active.expand_as(found.reference.batch.h)[:, 0]
    pairs = (active.unsqueeze(1) & active.unsqueeze(2)).tril(-1)
    what = "exact" if found.reference.is_exact else "long run"
    for row, (chosen, expected, label) in enumerate(
        ((active, found.reference.mean, "⟨s⟩"), (pairs, found.reference.pairs, "⟨ss⟩"))
    ):
        for column, result in enumerate(judged):
            axes, samples = grid[column][row], result.samples
            assert samples is not None
            values = _mean(samples) if row == 0 else samples.pair_correlations(torch.float64)[:, 0]
            number = total_weights(samples).reshape(-1, *[1] * (chosen.ndim - 1))
            errors = ((1 - values**2).clamp_min(0) / number).sqrt()
            x, y, error = (v[chosen].numpy() for v in (expected, values, errors))
            some = np.linspace(0, len(x) - 1, min(POINTS, len(x))).round().astype(int)
            axes.plot([-1, 1], [-1, 1], color="0.4", linewidth=0.8, zorder=0)
            axes.errorbar(
                x[some],
                y[some],
                error[some],
                linestyle="none",
                markersize=2.5,
                elinewidth=0.6,
                alpha=0.7,
                **style(column),
            )
            axes.set(xlim=(-1.08, 1.08), ylim=(-1.08, 1.08), aspect="equal")
            axes.grid(alpha=0.3)
            if row == 0:
                axes.set_title(_wrapped(result.label), fontsize=9)
            if column % COLUMNS == 0:
                axes.set_ylabel(f"{label} of reads")
            axes.set_xlabel(f"{label}, {what}")
            if len(some) < len(x):
                axes.text(
                    0.04, 0.93, f"{len(some)} of {len(x)}", transform=axes.transAxes, fontsize=7
                )
    return figure


def energies(found: SetResult, judged: list[SamplerResult]) -> "Figure":
    """Histograms of the energy in each problem's own units, and how far they are from exact."""
    from matplotlib.figure import Figure

    distributions = found.reference.energies
    edges = np.linspace(-2.5, 4.0, 40)
    middle, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    unit = len(distributions) * width
    exact = np.zeros(len(middle))
    for d in distributions:
        scaled = (d.values - d.mean) / (d.sd or 1.0)
        exact += np.histogram(scaled, edges, weights=d.probabilities)[0] / unit
    figure = Figure(figsize=(8.5, 6.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    what = "exact" if found.reference.is_exact else "long run"
    above.fill_between(middle, exact, step="mid", color="0.82", zorder=0, label=what)
    furthest = []
    for index, result in enumerate(judged):
        density, error = _energy_density(found, result, edges)
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
    below.set_ylabel(f"density - {what}")
    below.set_xlabel("(βE - mean) / standard deviation, exact values of each problem")
    for axes in (above, below):
        axes.grid(alpha=0.3)
    _legend_above(figure, below, len(judged))
    return figure


def _energy_density(
    found: SetResult, result: SamplerResult, edges: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Density of the reads' energies, all problems alike, and its standard error."""
    samples = result.samples
    assert samples is not None
    E = found.reference.batch.energies(samples.spins)[:, 0].numpy()
    weights = samples.normalized_weights(torch.float64)[:, 0].numpy()
    reads = total_weights(samples).numpy()
    density, variance = np.zeros(len(edges) - 1), np.zeros(len(edges) - 1)
    for p, d in enumerate(found.reference.energies):
        scaled = (E[p] - d.mean) / (d.sd or 1.0)
        share = np.histogram(scaled, edges, weights=weights[p])[0]
        density += share
        variance += (share * (1 - share)).clip(0) / reads[p]
    unit = len(E) * (edges[1] - edges[0])
    return density / unit, np.sqrt(variance) / unit


def temperatures(judged: list[SamplerResult]) -> "Figure":
    """Fitted β_h and β_J of each problem with standard errors, and of all with 95% intervals."""
    figure, grid = _panels(judged, 2.9, 2.3)
    for row, name in enumerate(("β_h", "β_J")):
        spans: list[float] = []
        for column, result in enumerate(judged):
            axes, quality = grid[column][row], result.quality
            assert quality is not None
            beta = quality.betas_of_each[:, row].numpy()
            error = quality.errors_of_each[:, row].numpy()
            look = style(column)
            fixed = np.isfinite(beta)
            axes.errorbar(
                np.arange(len(beta))[fixed],
                beta[fixed],
                error[fixed],
                linestyle="none",
                markersize=3,
                elinewidth=0.7,
                alpha=0.8,
                **look,
            )
            spans += beta[fixed].tolist()
            axes.axhline(1, color="black", linewidth=0.8)
            if quality.betas is not None and math.isfinite(
                (quality.betas.beta_h, quality.betas.beta_J)[row]
            ):
                low, high = quality.betas.interval()[row]
                axes.axhspan(low, high, color=look["color"], alpha=0.3, zorder=0)
            if not fixed.all():
                axes.text(
                    0.03, 0.03, f"{(~fixed).sum()} not fixed", transform=axes.transAxes, fontsize=7
                )
            if row == 0:
                axes.set_title(_wrapped(result.label), fontsize=9)
            axes.set_xlabel("problem")
            axes.grid(alpha=0.3)
            axes.locator_params(axis="x", integer=True, nbins=4)
        low, high = np.quantile(spans or [1.0], [0.02, 0.98])
        reach = min(max(0.25, 1.3 * max(high - 1, 1 - low)), 1.5)
        for column, panels in enumerate(grid):
            panels[row].set_ylim(1 - reach, 1 + reach)
            if column % COLUMNS == 0:
                panels[row].set_ylabel(f"fitted {name} / target")
    return figure


def _scores(result: SamplerResult) -> dict[str, Any]:
    assert result.quality is not None
    return dict(result.quality.scores)


def _mean(samples: SpinSamples) -> Tensor:
    mean: Tensor = samples.mean_spins(torch.float64)[:, 0]
    return mean


def _wrapped(label: str) -> str:
    """A long label on several lines."""
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


def _legend_above(figure: "Figure", axes: Any, entries: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    columns = 2 if max(map(len, labels)) > 24 else min(entries, 4)
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, fontsize=8)


def _panels(judged: list[SamplerResult], width: float, height: float) -> tuple["Figure", Any]:
    """Two panels for each sampler, one above the other, at most COLUMNS samplers in a row."""
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(judged))
    blocks = math.ceil(len(judged) / columns)
    size = (max(width * columns, 5.0), 2 * height * blocks + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    grid: Any = figure.subplots(2 * blocks, columns, squeeze=False)
    for place in range(len(judged), blocks * columns):
        for row in (0, 1):
            grid[2 * (place // columns) + row][place % columns].set_visible(False)
    found = [
        [grid[2 * (place // columns) + row][place % columns] for row in (0, 1)]
        for place in range(len(judged))
    ]
    return figure, found
