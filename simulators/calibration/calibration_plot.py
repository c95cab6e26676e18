"""The picture of a simulated annealer's calibration."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from qattn.simulators.calibration.calibration_file import SimulatorCalibration


def plot_divergences(calibration: SimulatorCalibration) -> Figure:
    """Divergence against annealing time with theory's betas and the fitted; the betas below."""
    figure = Figure(figsize=(7.4, 6.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    curves = calibration.curves("schedule", "field_encoding")
    schedules = list(dict.fromkeys(schedule for schedule, _ in curves))
    for number, ((schedule, encoding), points) in enumerate(curves.items()):
        color = f"C{number}"
        times = [point.annealing_time for point in points]
        label = f"{_name(schedule, schedules)}, {encoding}"
        # Filled: theory's betas; open: the fitted. Joined where there is more than one time.
        theory, fitted = {"marker": "o", "color": color}, {"marker": "o", "mfc": "white"}
        above.plot(times, [p.divergence for p in points], **theory, label=f"{label}: theory's β")
        open_points = fitted | {"linestyle": "--", "color": color, "label": f"{label}: fitted β"}
        above.plot(times, [p.fitted_divergence for p in points], **open_points)
        for name, marker in (("beta_h", "o"), ("beta_J", "s")):
            betas = [getattr(point, name) for point in points]
            style = {"marker": marker, "color": color, "linestyle": "--", "mfc": "white"}
            below.plot(times, betas, **style, label=f"{name.replace('beta', 'β')}, {label}")
    above.axhline(
        calibration.uniform_divergence, color="black", linestyle=":", label="uniform reads"
    )
    above.set_yscale("log")
    above.set_ylabel("divergence from the target (nats)")
    above.set_title(
        f"simulated annealer on {calibration.num_problems} problems of up to "
        f"{calibration.num_spins} spins",
        fontsize=10,
    )
    below.set_ylabel("fitted β (1 / programmed unit)")
    label_times(below, (point.annealing_time for point in calibration.points))
    add_legend(above)
    add_legend(below)
    return figure


def _name(schedule: str, schedules: list[str]) -> str:
    """A schedule in the legend: its name, or of a file that it is one, and which of several."""
    if Path(schedule).suffix == "":
        return schedule
    files = [other for other in schedules if Path(other).suffix]
    return "file" if len(files) == 1 else f"file {1 + files.index(schedule)}"


def label_times(axes: Any, annealing_times: Iterable[float]) -> None:
    """A logarithmic axis of annealing times, with a tick at each of these (ns)."""
    times = sorted(set(annealing_times))
    axes.set_xscale("log")
    axes.set_xticks(times, [f"{time:g}" for time in times])
    axes.minorticks_off()
    axes.set_xlim(min(axes.get_xlim()[0], 0.9 * times[0]), max(axes.get_xlim()[1], times[-1] / 0.9))
    axes.set_xlabel("annealing time (ns)")


def add_legend(axes: Any) -> None:
    """A small legend beside the data, and a faint grid."""
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    axes.grid(alpha=0.3)
