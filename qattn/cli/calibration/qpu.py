"""``qattn calibrate --sampler dwave``: the betas of a QPU at each setting."""

import itertools
import sys
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table

from qattn.cli.calibration.outcome import Outcome
from qattn.cli.terminal.progress import Stages
from qattn.hardware.calibrate import calibrate_device
from qattn.hardware.calibration_file import DeviceCalibration
from qattn.hardware.calibration_plot import plot_betas
from qattn.hardware.dwave import DWaveBackend
from qattn.hardware.service.budget import format_duration
from qattn.hardware.settings import QPUSettings
from qattn.ising.batch import IsingBatch

ANNEALING_TIMES = (5.0, 7.0, 10.0, 14.0, 20.0)
"""Annealing times in ns that are tried by default."""

SHIM_CORRECTIONS = 3
"""Corrections of the flux biases after the first."""


def qpu_outcome(
    batch: IsingBatch,
    *,
    described: str,
    seed: int,
    schedules: Sequence[str] | None = None,
    annealing_times: Sequence[float] | None = None,
    field_encodings: Sequence[str] | None = None,
    chain_strengths: Sequence[float] | None = None,
    num_reads: int = 100,
    shim: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Outcome:
    """Measure a QPU's betas at every combination of settings.

    Args:
        batch: The problems.
        described: What they are, for the calibration's file.
        seed: Seed of the reads.
        schedules: File of the device's published schedule, for the betas of theory; one at most.
        annealing_times: Annealing times in ns; None means :data:`ANNEALING_TIMES`.
        field_encodings: How fields are programmed; None means "ghost".
        chain_strengths: Couplings within chains; None means the strongest that the device allows.
        num_reads: Reads per problem and round.
        shim: Measure flux biases that cancel the offsets of chains first.
        quiet: Show no progress.
        options: More options of the backend "dwave", such as its credentials and its journal.

    Raises:
        ValueError: More than one schedule is given, or an option has another value.
        BackendStopped: The service or the solver is not available, or a job failed.
    """
    if schedules is not None and len(schedules) > 1:
        raise ValueError("A device has one schedule: give --schedule once.")
    times, encodings = annealing_times or ANNEALING_TIMES, field_encodings or ("ghost",)
    backend = DWaveBackend(
        betas=(1.0, 1.0),
        annealing_time=times[0],
        field_encoding=encodings[0],
        follow_betas=False,
        **options,
    )
    stages = Stages(1 + len(times) * len(encodings) * len(chain_strengths or (None,)), quiet=quiet)
    try:
        with stages:
            stages.begin("connecting")
            session = backend.session
            stages.spent = lambda: f"QPU {format_duration(session.budget.spent)}"
            strengths = chain_strengths or (session.settings.chain_strength,)
            points = itertools.starmap(QPUSettings, itertools.product(times, encodings, strengths))
            calibration = calibrate_device(
                session,
                batch,
                list(points),
                num_reads=num_reads,
                schedule=schedules[0] if schedules else None,
                seed=seed,
                described=described,
                shim_corrections=SHIM_CORRECTIONS if shim else None,
                progress=lambda settings: stages.begin(
                    f"{settings.annealing_time:g} ns, {settings.field_encoding}, chains "
                    f"{settings.chain_strength:g}"
                ),
            )
        spent = session.budget.spent
    except KeyboardInterrupt:
        print("The same command goes on with the answers that are in the journal.", file=sys.stderr)
        raise
    finally:
        backend.close()
    best = calibration.best
    if calibration.shim is not None:
        stages.console.print(f"shim: {calibration.shim.describe()}")
    recommended = (
        f"annealing_time = {best.annealing_time:g} ns, field_encoding = {best.field_encoding}, "
        f"chain_strength = {best.chain_strength:g}; {format_duration(spent)} of QPU time"
    )
    return Outcome(calibration, betas_table, plot_betas, recommended)


def betas_table(calibration: DeviceCalibration) -> Table:
    """One row per setting: the fitted betas, how well they fit, and theory's."""
    emulated = ", EMULATED" if calibration.emulated else ""
    with_theory = any(point.theory is not None for point in calibration.points)
    table = Table(
        *(
            "ns",
            "fields",
            "chains",
            "β_h",
            "β_J",
            "p",
            "misfit",
            "broken",
        ),
        *(("theory",) if with_theory else ()),
        box=box.SIMPLE,
        padding=0,
        caption="±: standard errors. p: of β_h = β_J. broken: rate of chain breaks.",
        title=f"{calibration.solver}{emulated}, graph {calibration.graph_id}; "
        f"{calibration.problems}",
    )
    for point in calibration.points:
        error_h, error_J = point.standard_errors
        table.add_row(
            f"{point.annealing_time:g}",
            point.field_encoding,
            f"{point.chain_strength:g}",
            f"{point.beta_h:.4g} ± {error_h:.2g}",
            f"{point.beta_J:.4g} ± {error_J:.2g}",
            f"{point.p_value:.2g}",
            f"{point.misfit:.2f}"
            + ("" if point.misfit_error is None else f" ± {point.misfit_error:.1g}"),
            f"{point.chain_break_rate:.2g}",
            *(() if point.theory is None else ("{:.3g}, {:.3g}".format(*point.theory),)),
        )
    return table
