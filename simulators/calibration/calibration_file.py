"""What is known of a simulated annealer's settings as a sampler, and the file that holds it."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from qattn.calibration_file import Calibration, read_calibration
from qattn.simulators.settings import AnnealSettings


@dataclass(frozen=True)
class SimulatorPoint:
    r"""A setting of a simulated annealer, judged by exact probabilities: without sampling noise.

    Attributes:
        schedule: Name or file of the schedule.
        annealing_time: Duration in ns.
        field_encoding: "direct" or "ghost".
        theory: (β_h, β_J) of first-order theory (with "ghost", β_h is that of couplings).
        beta_h: β_h fitted by pseudo-likelihood to the output of problems that were programmed
            with theory's betas.
        beta_J: The same for couplings.
        divergence: Mean Kullback-Leibler divergence from the target when programmed with
            theory's betas, nats.
        fitted_divergence: The same when programmed with the fitted betas.
        worst_divergence: The largest over the problems, with the better pair of betas.
        sheet: Sheet of the schedule's workbook; None for a schedule that is in none.
    """

    schedule: str
    annealing_time: float
    field_encoding: str
    theory: tuple[float, float]
    beta_h: float
    beta_J: float
    divergence: float
    fitted_divergence: float
    worst_divergence: float
    sheet: str | None = None

    @property
    def least_divergence(self) -> float:
        """The mean divergence with the better pair of betas, nats."""
        return min(self.divergence, self.fitted_divergence)

    @property
    def settings(self) -> AnnealSettings:
        """The settings of this point, with the fitted betas where they are the better pair."""
        fitted = (self.beta_h, self.beta_J) if self.fitted_divergence < self.divergence else None
        return AnnealSettings(
            self.schedule,
            self.annealing_time,
            sheet=self.sheet,
            field_encoding=self.field_encoding,
            betas=fitted,
        )


@dataclass(frozen=True)
class SimulatorCalibration(Calibration[SimulatorPoint]):
    """The result of :func:`qattn.simulators.calibration.calibrate.calibrate_simulator`.

    Attributes:
        num_problems: Number of problems judged.
        num_spins: Largest number of spins among them.
        uniform_divergence: Mean divergence of the uniform distribution from the targets, nats:
            that of a sampler that ignores the problem.
        points: One for each setting that can sample, in the order tried.
        recommended: Index of the point of least mean divergence.
    """

    kind: ClassVar[str] = "simulator"
    point_type: ClassVar[type] = SimulatorPoint

    num_problems: int
    num_spins: int
    uniform_divergence: float
    points: tuple[SimulatorPoint, ...]
    recommended: int


def load_settings(file: str | Path) -> AnnealSettings:
    """The recommended settings of a calibration file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not a calibration of a simulated annealer.
    """
    values = read_calibration(file, SimulatorCalibration.kind)
    recommended = values.get("recommended")
    if not isinstance(recommended, dict):
        return SimulatorCalibration.from_values(values, file).best.settings
    # Format 1 held the settings themselves.
    known = AnnealSettings.__dataclass_fields__.keys()
    if not recommended.keys() <= known:
        raise ValueError(
            f"Annealer settings must have keys among {', '.join(sorted(known))}, "
            f"but have {', '.join(sorted(recommended.keys() - known))}."
        )
    betas = recommended.get("betas")
    if betas is not None:
        beta_h, beta_J = betas
        betas = float(beta_h), float(beta_J)
    return AnnealSettings(**recommended | {"betas": betas})
