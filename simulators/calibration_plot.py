"""The picture of a simulated annealer's calibration."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from qattn.simulators.calibration_file import SimulatorCalibration


def plot_divergences(calibration: SimulatorCalibration) -> Figure:
    """Divergence against annealing time; solid with theory's betas, dashed with the fitted."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for (schedule, encoding), points in calibration.curves("schedule", "field_encoding").items():
        times = [point.annealing_time for point in points]
        label = f"{Path(schedule).stem}, {encoding}"
        (line,) = axes.plot(times, [p.divergence for p in points], marker="o", label=label)
        fitted = [point.fitted_divergence for point in points]
        axes.plot(times, fitted, color=line.get_color(), marker=".", linestyle="--")
    axes.axhline(
        calibration.uniform_divergence, color="black", linestyle=":", label="uniform reads"
    )
    axes.set_yscale("log")
    axes.set_ylabel("divergence from the target (nats)")
    axes.set_title("solid: theory's β_h, β_J; dashed: fitted", fontsize=10)
    label_times(axes, (point.annealing_time for point in calibration.points))
    add_legend(axes)
    return figure


def label_times(axes: Any, annealing_times: Iterable[float]) -> None:
    """A logarithmic axis of annealing times, with a tick at each of these (ns)."""
    times = sorted(set(annealing_times))
    axes.set_xscale("log")
    axes.set_xticks(times, [f"{time:g}" for time in times])
    axes.minorticks_off()
    axes.set_xlabel("annealing time (ns)")


def add_legend(axes: Any) -> None:
    """A small legend, and a faint grid."""
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
