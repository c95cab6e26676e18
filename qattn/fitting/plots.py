"""Pictures of a fit."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qattn.fitting.config import FitFolder
from qattn.training.plots.panels import grid_of_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_fit(folder: FitFolder) -> list[Path]:
    """Write the curves of a fit into its folder, as PNG and as SVG; returns the paths of both."""
    config = folder.trained_config(folder.read_checkpoint())
    problems = config.problems or config.family
    figure = fit_curves(folder.read_metrics(), f"{problems}, β = {config.beta:g}")
    paths = [folder.path / f"fit.{kind}" for kind in ("png", "svg")]
    for path in paths:
        figure.savefig(path, dpi=120)
    return paths


def fit_curves(records: list[dict[str, Any]], title: str) -> "Figure":
    """Free energies, effective shares of reads, spread of ln q + βE, and β, against the step.

    Points are measurements of the averaged parameters at the target β, lines are the reads of the
    steps at the β of the moment; the dotted line is the reference.
    """
    figure, grid = grid_of_axes(2, 2, 4.6, 3.2)
    (free, shares), (spread, beta) = grid
    _curve(free, records, "F", "reads of the steps", "-")
    _curve(free, records, "measured_F_q", "F_q", "o")
    _curve(free, records, "measured_F_IS", "F_IS", "x")
    known = [r["measured_F"] for r in records if "measured_F" in r]
    if known:
        free.axhline(known[-1], color="black", linestyle=":", linewidth=1, label="reference")
    free.set_ylabel("free energy a spin")
    _curve(shares, records, "ess", "ESS of the steps", "-")
    _curve(shares, records, "measured_ess", "ESS", "o")
    _curve(shares, records, "measured_forward_ess", "forward ESS", "x")
    shares.set_ylim(0, 1.03)
    shares.set_ylabel("effective share of reads")
    _curve(spread, records, "spread", "std(ln q + βE)", "-")
    spread.set_yscale("log")
    spread.set_ylabel("nats")
    _curve(beta, records, "beta", "β", "-")
    rate = beta.twinx()
    _curve(rate, records, "rate", "learning rate", "--")
    beta.set_ylabel("β")
    rate.set_ylabel("learning rate (dashed)")
    for axes in grid.flat:
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def _curve(axes: "Axes", records: list[dict[str, Any]], name: str, label: str, style: str) -> None:
    rows = [r for r in records if name in r]
    if rows:
        axes.plot([r["step"] for r in rows], [r[name] for r in rows], style, label=label)
