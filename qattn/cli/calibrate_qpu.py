"""``qattn calibrate --sampler dwave``: the betas of a QPU, as a table, a file and a plot."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from qattn.ising import IsingBatch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from qattn.hardware.calibration_file import DeviceCalibration

ANNEALING_TIMES = (5.0, 7.0, 10.0, 14.0, 20.0)
"""Annealing times in ns that are tried unless others are asked for."""


def calibrate_qpu(
    batch: IsingBatch,
    *,
    described: str,
    schedules: Sequence[str] | None,
    annealing_times: Sequence[float] | None,
    field_encodings: Sequence[str] | None,
    chain_strengths: Sequence[float] | None,
    num_reads: int,
    seed: int,
    service: dict[str, Any],
    journal: Path | None,
    out: Path,
) -> None:
    """Measure the betas at every combination of settings; print and write what was found."""
    from qattn.hardware.calibrate import Point, calibrate_device
    from qattn.hardware.dwave import DWaveBackend

    if schedules is not None and len(schedules) > 1:
        raise ValueError("A device has one schedule: give --schedule once.")
    times = annealing_times or ANNEALING_TIMES
    backend = DWaveBackend(
        betas=(1.0, 1.0),
        annealing_time=times[0],
        field_encoding=(field_encodings or ("ghost",))[0],
        track=False,
        journal=journal or out.with_name(f"{out.stem}-journal"),
        **service,
    )
    console = Console()
    status = Console(stderr=True)
    try:
        session = backend.session
        strengths = chain_strengths or (session.settings.chain_strength,)
        points = [
            Point(*each)
            for each in itertools.product(times, field_encodings or ("ghost",), strengths)
        ]
        found = calibrate_device(
            session,
            batch,
            points,
            num_reads=num_reads,
            schedule=schedules[0] if schedules else None,
            seed=seed,
            described=described,
            progress=lambda point: status.print(
                f"{point.annealing_time:g} ns, {point.field_encoding}, chain strength "
                f"{point.chain_strength:g}; {session.budget.spent:.3g} s of QPU time so far",
                highlight=False,
            ),
        )
        spent = session.budget.spent
    finally:
        backend.close()
    found.save(out)
    picture = out.with_suffix(".png")
    betas_plot(found).savefig(picture, dpi=120)
    console.print(betas_table(found))
    best = found.best
    console.print(
        f"recommended: annealing_time = {best.annealing_time:g} ns, field_encoding = "
        f"{best.field_encoding}, chain_strength = {best.chain_strength:g}; "
        f"{spent:.3g} s of QPU time",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"{out}\n{picture}", highlight=False, soft_wrap=True)


def betas_table(found: "DeviceCalibration") -> Table:
    """One row per setting."""
    emulated = ", EMULATED" if found.emulated else ""
    table = Table(title=f"{found.solver}{emulated}, graph {found.graph_id}; {found.problems}")
    names = (
        *("ns", "fields", "chains", "β_h ± s.e.", "β_J ± s.e.", "one β?", "misfit", "broken"),
        "theory",
    )
    for name in names:
        table.add_column(name)
    for point in found.points:
        of_h, of_J = point.standard_errors
        table.add_row(
            f"{point.annealing_time:g}",
            point.field_encoding,
            f"{point.chain_strength:g}",
            f"{point.beta_h:.4g} ± {of_h:.2g}",
            f"{point.beta_J:.4g} ± {of_J:.2g}",
            f"p = {point.p_value:.2g}",
            f"{point.misfit:.2f}",
            f"{point.chain_break_rate:.2g}",
            "" if point.theory is None else "{:.4g}, {:.4g}".format(*point.theory),
        )
    return table


def betas_plot(found: "DeviceCalibration") -> "Figure":
    """Betas with their 95% intervals against annealing time, and the misfit below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 6.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    settings = dict.fromkeys((p.field_encoding, p.chain_strength) for p in found.points)
    for number, (encoding, strength) in enumerate(settings):
        points = sorted(
            (
                p
                for p in found.points
                if (p.field_encoding, p.chain_strength) == (encoding, strength)
            ),
            key=lambda p: p.annealing_time,
        )
        times = [p.annealing_time for p in points]
        label = f"{encoding}, chains {strength:g}"
        for index, (name, marker) in enumerate((("β_h", "o"), ("β_J", "s"))):
            values = [(p.beta_h, p.beta_J)[index] for p in points]
            widths = [
                float(p.interval()[index, 1]) - v for p, v in zip(points, values, strict=True)
            ]
            color = f"C{2 * number + index}"
            above.errorbar(
                times,
                values,
                widths,
                marker=marker,
                capsize=3,
                color=color,
                label=f"{name}, {label}",
            )
            theory = [p.theory[index] for p in points if p.theory is not None]
            if len(theory) == len(points):
                above.plot(times, theory, color=color, linestyle=":", label=f"{name}, theory")
        below.plot(
            times, [p.misfit for p in points], marker="o", color=f"C{2 * number}", label=label
        )
    below.axhline(1.0, color="black", linestyle=":", label="independent reads")
    every_time = sorted({p.annealing_time for p in found.points})
    above.set_xscale("log")
    below.set_xticks(every_time, [f"{time:g}" for time in every_time])
    below.minorticks_off()
    above.set_ylabel("fitted β (1 / programmed unit)")
    below.set_ylabel("misfit")
    below.set_xlabel("annealing time (ns)")
    above.set_title(f"{found.solver}{' (EMULATED)' if found.emulated else ''}", fontsize=10)
    for axes in (above, below):
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    return figure
