"""What is known of a device's inverse temperatures, and the files that hold it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from qattn.calibration_file import KINDS, Calibration, read_calibration
from qattn.hardware.flux_shim import FluxShim


@dataclass(frozen=True)
class DevicePoint:
    r"""A device's inverse temperatures at one setting.

    Attributes:
        annealing_time: ns.
        field_encoding: "ghost", "ancilla" or "direct".
        chain_strength: In the device's units.
        beta_h: Fitted β_h.
        beta_J: Fitted β_J.
        covariance: Their covariance matrix.
        p_value: p-value of the hypothesis that one β serves both.
        misfit: Root mean square deviation of ⟨s⟩ and ⟨s s⟩ from the Boltzmann distribution at the
            fitted betas, over what independent reads would show: 1 for a perfect sampler.
        chain_break_rate: Mean rate of broken chains.
        num_problems: Number of problems that they were fitted to.
        theory: (β_h, β_J) of first-order theory, where a schedule was given.
        misfit_error: Standard error of the misfit; older files have none.
    """

    annealing_time: float
    field_encoding: str
    chain_strength: float
    beta_h: float
    beta_J: float
    covariance: tuple[tuple[float, float], tuple[float, float]]
    p_value: float
    misfit: float
    chain_break_rate: float
    num_problems: int
    theory: tuple[float, float] | None = None
    misfit_error: float | None = None

    def __post_init__(self) -> None:
        for name in ("annealing_time", "beta_h", "beta_J"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ValueError(f"`{name}` must be a positive number, but is {value!r}")
        if np.shape(self.covariance) != (2, 2):
            raise ValueError(
                f"Argument `covariance` must have shape (2, 2), but is {self.covariance}."
            )

    @property
    def standard_errors(self) -> tuple[float, float]:
        """The standard errors of β_h and β_J."""
        return math.sqrt(self.covariance[0][0]), math.sqrt(self.covariance[1][1])

    def interval(self, level: float = 0.95) -> NDArray[np.float64]:
        """Confidence intervals of β_h and β_J, shape (2, 2): rows are (low, high)."""
        from scipy import stats

        width = stats.t.ppf((1 + level) / 2, self.num_problems - 1) * np.array(self.standard_errors)
        centre = np.array([self.beta_h, self.beta_J])
        return np.stack([centre - width, centre + width], 1)


@dataclass(frozen=True)
class DeviceCalibration(Calibration[DevicePoint]):
    """The result of :func:`qattn.hardware.calibrate.calibrate_device`.

    Attributes:
        solver: Name of the solver.
        graph_id: Identifier of its working graph.
        emulated: Whether the solver was an emulator.
        created: Time of the calibration, ISO 8601 in UTC.
        points: The settings that were measured.
        recommended: Index of the point of the least misfit.
        problems: The problems that it was calibrated on, in words.
        shim: Flux biases of the chains, where they were measured; the betas are with them on.
    """

    kind: ClassVar[str] = "qpu"
    point_type: ClassVar[type] = DevicePoint

    solver: str
    graph_id: str
    emulated: bool
    created: str
    points: tuple[DevicePoint, ...]
    recommended: int
    problems: str = ""
    shim: FluxShim | None = None

    @classmethod
    def from_values(cls, values: Mapping[str, Any], file: str | Path) -> "DeviceCalibration":
        """The calibration with the plain values of a file; see :class:`Calibration`."""
        given = dict(values)
        if given.get("shim") is not None:
            given["shim"] = FluxShim.from_values(given["shim"], file)
        return super().from_values(given, file)

    def __post_init__(self) -> None:
        if datetime.fromisoformat(self.created).tzinfo is None:
            raise ValueError(f"`created` must have a time zone, but is {self.created!r}")

    def age(self, now: datetime | None = None) -> float:
        """The hours since the calibration was made."""
        now = now or datetime.now(UTC)
        return (now - datetime.fromisoformat(self.created)).total_seconds() / 3600

    def point(self, **settings: Any) -> DevicePoint:
        """The point with these settings: the recommended one, else that of the least misfit.

        Args:
            **settings: Any of :data:`qattn.hardware.settings.CHOSEN_BY`; None means any value.

        Raises:
            ValueError: No point has these settings.
        """
        required = {name: value for name, value in settings.items() if value is not None}
        matching = [
            point
            for point in (self.best, *self.points)
            if all(getattr(point, name) == value for name, value in required.items())
        ]
        if not matching:
            raise ValueError(
                f"The calibration of {self.solver} has no point with "
                f"{', '.join(f'{name} = {value}' for name, value in required.items())}: calibrate "
                f"there, or drop the option."
            )
        return matching[0] if matching[0] is self.best else min(matching, key=lambda p: p.misfit)


def load_device_calibration(file: str | Path, solver: str) -> DeviceCalibration:
    """The calibration of a solver from a file, or the newest in a folder of such files.

    Raises:
        FileNotFoundError: There is no such file, or none of this solver in the folder.
        ValueError: The file is not a calibration of a QPU, or of another one.
    """
    path = Path(file)
    command = KINDS[DeviceCalibration.kind].command
    if path.is_dir():
        calibrations = [
            DeviceCalibration.load(entry) for entry in sorted(path.iterdir()) if _is_of_a_qpu(entry)
        ]
        of_solver = [calibration for calibration in calibrations if calibration.solver == solver]
        if not of_solver:
            raise FileNotFoundError(
                f"The folder {path} has no calibration of {solver}: run `{command}` on it."
            )
        return max(of_solver, key=lambda calibration: calibration.created)
    calibration = DeviceCalibration.load(path)
    if calibration.solver != solver:
        raise ValueError(
            f"{path} is a calibration of {calibration.solver}, but the solver is {solver}: run "
            f"`{command}` on it."
        )
    return calibration


def _is_of_a_qpu(path: Path) -> bool:
    """Whether an entry of a folder is a calibration that this version reads."""
    try:
        return path.suffix in (".toml", ".json") and bool(
            read_calibration(path, DeviceCalibration.kind)
        )
    except (ValueError, OSError):
        return False
