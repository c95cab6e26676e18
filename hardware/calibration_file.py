"""What is known of a device's inverse temperatures, and the files that hold it."""

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
        p_value: Of the hypothesis that one β serves both.
        misfit: Root mean square deviation of ⟨s⟩ and ⟨s s⟩ from the Boltzmann distribution at the
            fitted betas, over what independent reads would show: 1 for a perfect sampler.
        chain_break_rate: Mean rate of broken chains.
        num_problems: Number of problems that they were fitted to.
        theory: (β_h, β_J) of first-order theory, where a schedule was given.
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

    @property
    def standard_errors(self) -> tuple[float, float]:
        """Of β_h and β_J."""
        return math.sqrt(self.covariance[0][0]), math.sqrt(self.covariance[1][1])

    def interval(self, level: float = 0.95) -> NDArray[np.float64]:
        """Confidence intervals of β_h and β_J, shape (2, 2): rows are (low, high)."""
        from scipy import stats

        width = stats.t.ppf((1 + level) / 2, self.num_problems - 1) * np.array(self.standard_errors)
        centre = np.array([self.beta_h, self.beta_J])
        return np.stack([centre - width, centre + width], 1)


@dataclass(frozen=True)
class DeviceCalibration:
    """What ``qattn calibrate --sampler dwave`` found about a device.

    Attributes:
        solver: Name of the solver.
        graph_id: Its working graph.
        emulated: Whether it was an emulator.
        created: When, ISO 8601 in UTC.
        points: The settings that were tried.
        recommended: Index of the best one.
        problems: What it was calibrated on, in words.
        kind: Tells its files from those of simulated annealers.
    """

    solver: str
    graph_id: str
    emulated: bool
    created: str
    points: tuple[DevicePoint, ...]
    recommended: int
    problems: str = ""
    kind: str = "qpu"

    @property
    def best(self) -> DevicePoint:
        """The recommended setting."""
        return self.points[self.recommended]

    def age(self, now: datetime | None = None) -> float:
        """Hours since it was made."""
        now = now or datetime.now(UTC)
        return (now - datetime.fromisoformat(self.created)).total_seconds() / 3600

    def point(
        self,
        annealing_time: float | None = None,
        field_encoding: str | None = None,
        chain_strength: float | None = None,
    ) -> DevicePoint:
        """The recommended of the points with these settings.

        Raises:
            ValueError: There is none.
        """
        wanted = {
            "annealing_time": annealing_time,
            "field_encoding": field_encoding,
            "chain_strength": chain_strength,
        }
        wanted = {name: value for name, value in wanted.items() if value is not None}
        fitting = [
            point
            for point in (self.best, *self.points)
            if all(getattr(point, name) == value for name, value in wanted.items())
        ]
        if not fitting:
            raise ValueError(
                f"The calibration of {self.solver} has no point with "
                f"{', '.join(f'{name} = {value}' for name, value in wanted.items())}: calibrate "
                f"there, or drop the option."
            )
        return fitting[0] if fitting[0] is self.best else min(fitting, key=lambda p: p.misfit)

    def save(self, file: str | Path) -> None:
        """Write a file that the backend takes as ``calibration``: JSON if so named, else TOML."""
        import tomli_w

        values = asdict(self)
        for point in values["points"]:
            if point["theory"] is None:
                del point["theory"]
        path = Path(file)
        text = json.dumps(values, indent=2) if path.suffix == ".json" else tomli_w.dumps(values)
        path.write_text(text, encoding="utf-8")


def load_device_calibration(file: str | Path, solver: str) -> DeviceCalibration:
    """The calibration of a solver from a file, or the newest in a folder of such files.

    Raises:
        FileNotFoundError: There is no such file, or none of this solver in the folder.
        ValueError: The file is not a calibration of a device, or of another one.
    """
    path = Path(file)
    if path.is_dir():
        found = [_read(each) for each in sorted(path.iterdir()) if _is_device_file(each)]
        found = [each for each in found if each.solver == solver]
        if not found:
            raise FileNotFoundError(
                f"The folder {path} has no calibration of {solver}: run "
                f"`qattn calibrate --sampler dwave` on it."
            )
        return max(found, key=lambda each: each.created)
    if not path.is_file():
        raise FileNotFoundError(f"Argument `calibration` must be an existing file, but is {path}.")
    calibration = _read(path)
    if calibration.solver != solver:
        raise ValueError(
            f"{path} is a calibration of {calibration.solver}, but the solver is {solver}: run "
            f"`qattn calibrate --sampler dwave` on it."
        )
    return calibration


def _values(path: Path) -> Mapping[str, Any]:
    text = path.read_text(encoding="utf-8")
    values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    return dict(values)


def _is_device_file(path: Path) -> bool:
    try:
        return path.suffix in (".toml", ".json") and _values(path).get("kind") == "qpu"
    except (ValueError, OSError):
        return False


def _read(path: Path) -> DeviceCalibration:
    try:
        values = dict(_values(path))
        if values.get("kind") != "qpu":
            raise ValueError("it is not one of a QPU")
        points = tuple(
            DevicePoint(
                **point
                | {
                    "covariance": _matrix(point["covariance"]),
                    "theory": tuple(point["theory"]) if point.get("theory") else None,
                }
            )
            for point in values.pop("points")
        )
        return DeviceCalibration(points=points, **values)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} must be a calibration that `qattn calibrate --sampler dwave` wrote: {error}"
        ) from None


def _matrix(rows: Any) -> tuple[tuple[float, float], tuple[float, float]]:
    (a, b), (c, d) = rows
    return (float(a), float(b)), (float(c), float(d))
