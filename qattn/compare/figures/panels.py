"""Pictures with panels for each sampler: moments and temperatures."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from qattn.compare.figures.style import style, wrapped
from qattn.compare.results import SamplerResult, SetResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 5
"""Maximum number of panels in a row."""

POINTS = 300
"""Maximum number of points with error bars in a scatter plot, at even distances in the data."""


OFF_SCALE = 8.0
"""Largest deviation of a moment, in standard errors, that has a place of its own."""


def moments_figure(set_result: SetResult, judged: list[SamplerResult]) -> "Figure":
    """Moments of the reads against those of the reference, and the difference over its error.

    Standard errors are those of independent reads; in the residuals, at the reference's moments:
    √((1 - m²)/N).
    """
    figure, grid = _panels(judged, (2.4, 2.4, 2.0), 2.5)
    active = set_result.reference.batch.active.expand_as(set_result.reference.batch.h)[:, 0]
    pairs = set_result.reference.known_pairs.tril(-1)
    of_reference = "exact" if set_result.reference.is_exact else "tempering"
    for row, (chosen, expected, label) in enumerate(
        ((active, set_result.reference.mean, "⟨s⟩"), (pairs, set_result.reference.pairs, "⟨ss⟩"))
    ):
        for column, result in enumerate(judged):
            axes, below, samples = grid[column][row], grid[column][2], result.samples
            assert samples is not None
            values = (
                samples.mean_spins(torch.float64)[:, 0]
                if row == 0
                else samples.pair_correlations(torch.float64)[:, 0]
            )
            number = samples.counts().reshape(-1, *[1] * (chosen.ndim - 1))
            errors = ((1 - values**2).clamp_min(0) / number).sqrt()
            residuals = (values - expected) / ((1 - expected**2).clamp_min(1e-12) / number).sqrt()
            x, y, error, z = (v[chosen].numpy() for v in (expected, values, errors, residuals))
            drawn = np.linspace(0, len(x) - 1, min(POINTS, len(x))).round().astype(int)
            look = style(column)
            axes.plot([-1, 1], [-1, 1], color="0.4", linewidth=0.8, zorder=0)
            axes.errorbar(
                x[drawn],
                y[drawn],
                error[drawn],
                linestyle="none",
                markersize=2.5,
                elinewidth=0.6,
                alpha=0.7,
                **look,
            )
            fill = look["color"] if row == 0 else "none"
            below.plot(
                x[drawn],
                z[drawn].clip(-OFF_SCALE, OFF_SCALE),
                linestyle="none",
                markersize=2.5,
                markeredgewidth=0.5,
                markerfacecolor=fill,
                alpha=0.7,
                **look,
            )
            axes.set(xlim=(-1.08, 1.08), ylim=(-1.08, 1.08), aspect="equal")
            if row == 0:
                axes.set_title(wrapped(result.label), fontsize=9)
            if column % _columns(len(judged)) == 0:
                axes.set_ylabel(f"{label} of reads")
            axes.set_xlabel(f"{label}, {of_reference}")
            if len(drawn) < len(x):
                axes.text(
                    0.04, 0.93, f"{len(drawn)} of {len(x)}", transform=axes.transAxes, fontsize=7
                )
            axes.grid(alpha=0.3)
    for column, (_, _, below) in enumerate(grid):
        below.axhspan(-2, 2, color="0.5", alpha=0.2, zorder=0)
        below.set(xlim=(-1.08, 1.08), ylim=(-1.1 * OFF_SCALE, 1.1 * OFF_SCALE))
        below.set_xlabel(f"{of_reference} (filled ⟨s⟩, open ⟨ss⟩)", fontsize=8)
        below.grid(alpha=0.3)
        if column % _columns(len(judged)) == 0:
            below.set_ylabel(f"(reads - {of_reference}) / σ")
    return figure


def temperatures_figure(judged: list[SamplerResult]) -> "Figure":
    """Fitted β_h and β_J of each problem with standard errors, and of all with 95% intervals."""
    figure, grid = _panels(judged, (2.3, 2.3), 2.5)
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
            if quality.betas is not None and math.isfinite(quality.betas.values[row]):
                low, high = quality.betas.interval()[row]
                axes.axhspan(low, high, color=look["color"], alpha=0.3, zorder=0)
            if not fixed.all():
                axes.text(
                    0.03, 0.03, f"{(~fixed).sum()} not fixed", transform=axes.transAxes, fontsize=7
                )
            if row == 0:
                axes.set_title(wrapped(result.label), fontsize=9)
            axes.set_xlim(-0.05 * len(beta) - 0.5, 1.05 * len(beta) - 0.5)
            axes.set_xlabel("problem")
            axes.grid(alpha=0.3)
            axes.locator_params(axis="x", integer=True, nbins=4)
        low, high = np.quantile(spans or [1.0], [0.02, 0.98])
        reach = min(max(0.25, 1.3 * max(high - 1, 1 - low)), 1.5)
        for column, panels in enumerate(grid):
            panels[row].set_ylim(1 - reach, 1 + reach)
            if column % _columns(len(judged)) == 0:
                panels[row].set_ylabel(f"fitted {name} / target")
    return figure


def _columns(samplers: int) -> int:
    """Number of panels in a row, so that rows are about equally full."""
    return math.ceil(samplers / math.ceil(samplers / COLUMNS))


def _panels(
    judged: list[SamplerResult], heights: tuple[float, ...], width: float
) -> tuple["Figure", Any]:
    """Panels of these heights for each sampler, one below the other; samplers side by side."""
    from matplotlib.figure import Figure

    columns, each = _columns(len(judged)), len(heights)
    blocks = math.ceil(len(judged) / columns)
    size = (max(width * columns, 5.0), sum(heights) * blocks + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    grid: Any = figure.subplots(
        each * blocks, columns, squeeze=False, height_ratios=heights * blocks
    )
    # The panels of each sampler, block by block of rows.
    panels = grid.reshape(blocks, each, columns).swapaxes(1, 2).reshape(-1, each)
    for axes in panels[len(judged) :].flat:
        axes.set_visible(False)
    return figure, panels[: len(judged)]
