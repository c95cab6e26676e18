"""Pictures of a comparison on one set of problems."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from qattn.compare.results import SamplerResult, SetResult
from qattn.quality import METRICS
from qattn.quality.apart import total_weights
from qattn.samples import SpinSamples

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#999999")
"""Okabe and Ito's palette, told apart by colour-blind eyes; markers and dashes differ too."""

MARKERS = "osD^vPX*"

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
            left = max(1 - reach, 0.02)
            axes.barh(row, 1 + reach - left, 0.8, left=left, color="0.5", alpha=alpha, zorder=0)
    for index, (result, offset) in enumerate(zip(judged, offsets, strict=True)):
        rows = [
            (row, _scores(result)[name])
            for row, name in enumerate(names)
            if name in _scores(result)
        ]
        axes.plot(
            [max(score.ratio, 0.05) for _, score in rows if math.isfinite(score.ratio)],
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
    figure, grid = _grid(2, len(judged), 2.5, 2.6)
    active = found.reference.batch.active.expand_as(found.reference.batch.h)[:, 0]
    pairs = (active.unsqueeze(1) & active.unsqueeze(2)).tril(-1)
    what = "exact" if found.reference.is_exact else "long run"
    for row, (chosen, expected, label) in enumerate(
        ((active, found.reference.mean, "⟨s⟩"), (pairs, found.reference.pairs, "⟨ss⟩"))
    ):
        for column, result in enumerate(judged):
            axes, samples = grid[row][column], result.samples
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
            if column == 0:
                axes.set_ylabel(f"{label} of reads")
            axes.set_xlabel(f"{label}, {what}")
            if len(some) < len(x):
                axes.text(
                    0.04, 0.93, f"{len(some)} of {len(x)}", transform=axes.transAxes, fontsize=7
                )
    return figure


def energies(found: SetResult, judged: list[SamplerResult]) -> "Figure":
    """Histograms of the energy in each problem's own units, all problems together."""
    from matplotlib.figure import Figure

    distributions = found.reference.energies
    edges = np.linspace(-3.5, 4.5, 41)
    middle, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    exact = np.zeros(len(middle))
    for d in distributions:
        spread = d.sd or 1.0
        exact += np.histogram((d.values - d.mean) / spread, edges, weights=d.probabilities)[0]
    exact /= len(distributions) * width
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes: Any = figure.subplots()
    axes.fill_between(
        middle,
        exact,
        step="mid",
        color="0.82",
        zorder=0,
        label="exact" if found.reference.is_exact else "long run",
    )
    for index, result in enumerate(judged):
        samples = result.samples
        assert samples is not None
        E = found.reference.batch.energies(samples.spins)[:, 0].numpy()
        weights = samples.normalized_weights(torch.float64)[:, 0].numpy()
        density, variance = np.zeros(len(middle)), np.zeros(len(middle))
        reads = total_weights(samples).numpy()
        for p, d in enumerate(distributions):
            scaled = (E[p] - d.mean) / (d.sd or 1.0)
            share = np.histogram(scaled, edges, weights=weights[p])[0]
            density += share
            variance += share * (1 - share) / reads[p]
        density /= len(distributions) * width
        error = np.sqrt(variance.clip(0)) / (len(distributions) * width)
        look = style(index)
        shift = (index - (len(judged) - 1) / 2) * width / (2 * len(judged))
        axes.step(middle, density, where="mid", color=look["color"], linewidth=1.2)
        axes.errorbar(
            middle + shift,
            density,
            error,
            linestyle="none",
            markersize=3,
            elinewidth=0.8,
            label=result.label,
            **look,
        )
    axes.set_xlabel("(βE - mean) / standard deviation, exact values of each problem")
    axes.set_ylabel("density")
    axes.grid(alpha=0.3)
    _legend_above(figure, axes, len(judged) + 1)
    return figure


def temperatures(judged: list[SamplerResult]) -> "Figure":
    """Fitted β_h and β_J of each problem with standard errors, and of all with 95% intervals."""
    figure, grid = _grid(2, len(judged), 2.5, 2.2, sharey="row")
    for row, name in enumerate(("β_h", "β_J")):
        spans: list[float] = []
        for column, result in enumerate(judged):
            axes, quality = grid[row][column], result.quality
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
        grid[row][0].set_ylabel(f"fitted {name} / target")
        if spans:
            low, high = np.quantile(spans, [0.02, 0.98])
            reach = max(0.25, 1.3 * max(high - 1, 1 - low))
            grid[row][0].set_ylim(max(1 - reach, -0.5), 1 + reach)
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


def _grid(
    rows: int, columns: int, width: float, height: float, **options: Any
) -> tuple["Figure", Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(width * columns, 5.0), height * rows + 0.6), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)
