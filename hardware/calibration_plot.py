"""The picture of a QPU's calibration."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from qattn.hardware.calibration_file import DeviceCalibration
from qattn.simulators.calibration.calibration_plot import add_legend, label_times

OFFSET = 0.02
"""Relative distance from its annealing time at which the outermost β is drawn."""


def plot_betas(calibration: DeviceCalibration) -> Figure:
    """Betas with their 95% intervals against annealing time, and the misfit below with its own."""
    figure = Figure(figsize=(7.4, 6.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    curves = calibration.curves("field_encoding", "chain_strength")
    # β_h and β_J of every curve stand side by side, so that no bar hides another.
    beside = iter(np.linspace(-1, 1, 2 * len(curves)) * OFFSET)
    for number, ((encoding, strength), points) in enumerate(curves.items()):
        times = np.array([point.annealing_time for point in points])
        label = f"{encoding}, chains {strength:g}"
        # β_h and β_J of a curve have neighbouring colours, and first-order theory is dotted.
        for index, (name, marker) in enumerate((("β_h", "o"), ("β_J", "s"))):
            color = f"C{2 * number + index}"
            betas = [(point.beta_h, point.beta_J)[index] for point in points]
            upper = [float(point.interval()[index, 1]) for point in points]
            widths = [high - beta for high, beta in zip(upper, betas, strict=True)]
            style = bars(len(points)) | {"color": color, "label": f"{name}, {label}"}
            at = times * (1 + next(beside))
            above.errorbar(at, betas, widths, **style | {"marker": marker})
            theory = [point.theory[index] for point in points if point.theory is not None]
            if len(theory) == len(points):
                above.plot(times, theory, color=color, linestyle=":", label=f"{name}, theory")
        misfits = [point.misfit for point in points]
        errors = [1.96 * (point.misfit_error or float("nan")) for point in points]
        style = bars(len(points)) | {"color": f"C{2 * number}", "label": label}
        below.errorbar(times, misfits, errors, **style | {"marker": "o"})
    below.axhline(1.0, color="black", linestyle=":", label="independent reads")
    above.set_ylabel("fitted β (1 / programmed unit)")
    below.set_ylabel("misfit")
    emulated = " (EMULATED)" if calibration.emulated else ""
    above.set_title(f"{calibration.solver}{emulated}", fontsize=10)
    figure.suptitle(f"Bars: 95% intervals. Graph {calibration.graph_id}", fontsize=8)
    label_times(below, (point.annealing_time for point in calibration.points))
    add_legend(above)
    add_legend(below)
    return figure


def bars(num_points: int) -> dict[str, Any]:
    """Style of points with error bars; a line joins them where it shows more than two points."""
    return {"capsize": 3, "linestyle": "-" if num_points > 2 else "none", "linewidth": 1}
