"""The picture of a QPU's calibration."""

from matplotlib.figure import Figure

from qattn.hardware.calibration_file import DeviceCalibration
from qattn.simulators.calibration_plot import add_legend, label_times


def plot_betas(calibration: DeviceCalibration) -> Figure:
    """Betas with their 95% intervals against annealing time, and the misfit below."""
    figure = Figure(figsize=(6.4, 6.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    curves = calibration.curves("field_encoding", "chain_strength")
    for number, ((encoding, strength), points) in enumerate(curves.items()):
        times = [point.annealing_time for point in points]
        label = f"{encoding}, chains {strength:g}"
        # β_h and β_J of a curve have neighbouring colours, and first-order theory is dotted.
        for index, (name, marker) in enumerate((("β_h", "o"), ("β_J", "s"))):
            color = f"C{2 * number + index}"
            betas = [(point.beta_h, point.beta_J)[index] for point in points]
            upper = [float(point.interval()[index, 1]) for point in points]
            widths = [high - beta for high, beta in zip(upper, betas, strict=True)]
            style = {"marker": marker, "capsize": 3, "color": color, "label": f"{name}, {label}"}
            above.errorbar(times, betas, widths, **style)
            theory = [point.theory[index] for point in points if point.theory is not None]
            if len(theory) == len(points):
                above.plot(times, theory, color=color, linestyle=":", label=f"{name}, theory")
        misfits = [point.misfit for point in points]
        below.plot(times, misfits, marker="o", color=f"C{2 * number}", label=label)
    below.axhline(1.0, color="black", linestyle=":", label="independent reads")
    above.set_ylabel("fitted β (1 / programmed unit)")
    below.set_ylabel("misfit")
    above.set_title(
        f"{calibration.solver}{' (EMULATED)' if calibration.emulated else ''}", fontsize=10
    )
    label_times(below, (point.annealing_time for point in calibration.points))
    add_legend(above)
    add_legend(below)
    return figure
