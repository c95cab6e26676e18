"""``qattn calibrate`` of a simulated annealer: its exact divergence at each setting."""

import math
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from qattn.backends.registry import load_backend
from qattn.cli.calibration.outcome import Outcome
from qattn.cli.terminal.progress import Stages
from qattn.field_encoding import SIMULATED
from qattn.ising.batch import IsingBatch
from qattn.simulators.calibration.calibrate import calibrate_simulator
from qattn.simulators.calibration.calibration_file import SimulatorCalibration
from qattn.simulators.calibration.calibration_plot import plot_divergences

ANNEALING_TIMES = (1.0, 2.0, 3.0, 5.0, 10.0)
"""Annealing times in ns that are tried by default."""


def simulator_outcome(
    batch: IsingBatch,
    sampler: str,
    *,
    schedules: Sequence[str] | None,
    annealing_times: Sequence[float] | None,
    field_encodings: Sequence[str] | None,
    sheet: str,
) -> Outcome:
    """Judge a simulated annealer at every combination of settings."""
    tried = (
        schedules or ("linear",),
        annealing_times or ANNEALING_TIMES,
        field_encodings or SIMULATED,
    )
    with Stages(math.prod(map(len, tried))) as stages:
        calibration = calibrate_simulator(
            batch,
            schedules=tried[0],
            annealing_times=tried[1],
            field_encodings=tried[2],
            sheet=sheet,
            backend=load_backend(sampler),  # type: ignore[arg-type]
            progress=lambda settings: stages.begin(
                f"{Path(str(settings.schedule)).name}, {settings.annealing_time:g} ns, "
                f"{settings.field_encoding}"
            ),
        )
    settings = calibration.best.settings.to_dict()
    recommended = ", ".join(f"{name} = {value}" for name, value in settings.items())
    return Outcome(calibration, divergence_table, plot_divergences, recommended)


def divergence_table(calibration: SimulatorCalibration) -> Table:
    """One row per setting: theory's and the fitted betas, and the divergence with each."""
    table = Table(
        *("schedule", "ns", "fields", "β_h, β_J", "fitted", "divergence", "with fitted"),
        title=f"{calibration.num_problems} problems of up to {calibration.num_spins} spins; "
        f"uniform reads would diverge by {calibration.uniform_divergence:.3g} nats",
    )
    for point in calibration.points:
        table.add_row(
            Path(point.schedule).name,
            f"{point.annealing_time:g}",
            point.field_encoding,
            "{:.3g}, {:.3g}".format(*point.theory),
            f"{point.beta_h:.3g}, {point.beta_J:.3g}",
            f"{point.divergence:.2g}",
            f"{point.fitted_divergence:.2g}",
        )
    return table
