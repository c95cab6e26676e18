"""How a QPU is used as a sampler: the settings of an anneal, and where its betas come from."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qattn.field_encoding import FieldEncoding
from qattn.hardware.calibration_file import DeviceCalibration, load_device_calibration

OUT_OF_RANGE = ("error", "clip")
"""What happens to fields and couplings that the device cannot hold."""


@dataclass(frozen=True)
class QPUSettings:
    """Settings that reads depend on.

    Args:
        annealing_time: Duration of an anneal in ns.
        field_encoding: "ghost", "ancilla" or "direct"; the first two use fast anneals, the last
            standard ones.
        chain_strength: Coupling within a chain, in the device's units, positive.
        betas: (β_h, β_J) of the device: what is programmed is βh/β_h and βJ/β_J. With "ghost" and
            "ancilla", β_h is that of the couplings which carry the fields.
        spin_reversal_transforms: Submissions among which the reads of a call are divided, each
            under a gauge of its own.
        out_of_range: "error" or "clip".

    Raises:
        ValueError: An argument has another value.
    """

    annealing_time: float
    field_encoding: str = "ghost"
    chain_strength: float = 2.0
    betas: tuple[float, float] = (1.0, 1.0)
    spin_reversal_transforms: int = 1
    out_of_range: str = "error"

    def __post_init__(self) -> None:
        encoding = FieldEncoding.parse(self.field_encoding)
        object.__setattr__(self, "field_encoding", encoding.value)  # a plain string, for files
        if self.out_of_range not in OUT_OF_RANGE:
            raise ValueError(
                f"Argument `out_of_range` must be one of {', '.join(OUT_OF_RANGE)}, "
                f"but is {self.out_of_range!r}."
            )
        for name in ("annealing_time", "chain_strength"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"Argument `{name}` must be positive and finite, but is {getattr(self, name)}."
                )
        if not all(0 < beta < math.inf for beta in self.betas):
            raise ValueError(
                f"Argument `betas` must be two positive numbers (β_h, β_J), but is {self.betas}."
            )
        if self.spin_reversal_transforms < 1:
            raise ValueError(
                f"Argument `spin_reversal_transforms` must be positive, "
                f"but is {self.spin_reversal_transforms}."
            )

    @property
    def encoding(self) -> FieldEncoding:
        """How fields are programmed."""
        return FieldEncoding(self.field_encoding)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON or TOML."""
        return asdict(self) | {"betas": list(self.betas)}


@dataclass(frozen=True)
class SettledSettings:
    """Settings for a device, and where its betas come from.

    Attributes:
        settings: The settings.
        covariance: Covariance of the betas, if it is known.
        calibration: The calibration that gave them, if one did.
    """

    settings: QPUSettings
    covariance: NDArray[np.float64] | None = None
    calibration: DeviceCalibration | None = None


class SettingsChoice:
    """What a user chose, before the device is known; see ``DWaveBackend`` for the arguments.

    Raises:
        ValueError: An argument has another value, or nothing says what β is.
    """

    def __init__(
        self,
        *,
        calibration: str | Path | None = None,
        betas: tuple[float, float] | None = None,
        schedule: str | Path | None = None,
        annealing_time: float | None = None,
        field_encoding: str | None = None,
        chain_strength: float | None = None,
        spin_reversal_transforms: int = 1,
        out_of_range: str = "error",
    ) -> None:
        self.calibration, self.betas, self.schedule = calibration, betas, schedule
        given: dict[str, Any] = {
            "annealing_time": annealing_time,
            "field_encoding": field_encoding,
            "chain_strength": chain_strength,
            "betas": betas,
        }
        self.given = {name: value for name, value in given.items() if value is not None}
        self.given |= {
            "spin_reversal_transforms": spin_reversal_transforms,
            "out_of_range": out_of_range,
        }
        QPUSettings(**({"annealing_time": 1.0} | self.given))  # the values, whatever the device
        if betas is None and calibration is None and schedule is None:
            raise ValueError(
                "The device's inverse temperatures are not known: run `qattn calibrate --sampler "
                "dwave` and pass its file as `calibration` (--calibration), or pass `betas`, or "
                "the device's published `schedule`."
            )
        if calibration is None and annealing_time is None:
            raise ValueError(
                "Argument `annealing_time` must be given, in ns, where no `calibration` is."
            )

    def settle(self, solver: str, properties: Mapping[str, Any]) -> SettledSettings:
        """The settings for this device.

        Raises:
            FileNotFoundError: There is no such calibration or schedule.
            ValueError: They are of another device, or do not hold what was chosen.
        """
        strongest = -float(properties.get("extended_j_range", properties["j_range"])[0])
        values: dict[str, Any] = {"chain_strength": strongest} | self.given
        covariance, calibration = None, None
        if self.calibration is not None:
            calibration = load_device_calibration(self.calibration, solver)
            names = ("annealing_time", "field_encoding", "chain_strength")
            point = calibration.point(**{name: self.given.get(name) for name in names})
            values |= {name: getattr(point, name) for name in names}
            values.setdefault("betas", (point.beta_h, point.beta_J))
            covariance = np.array(point.covariance)
        if self.betas is None and self.calibration is None:
            values["betas"] = self._theory(values["annealing_time"])
        settings = QPUSettings(**values)
        _check_time(settings, solver, properties)
        return SettledSettings(settings, None if self.betas else covariance, calibration)

    def _theory(self, annealing_time: float) -> tuple[float, float]:
        encoding = self.given.get("field_encoding", "ghost")
        assert self.schedule is not None
        return theory_betas(self.schedule, annealing_time, encoding)


def theory_betas(
    schedule: str | Path, annealing_time: float, field_encoding: str
) -> tuple[float, float]:
    """First-order theory's (β_h, β_J) for a published schedule, as the fields are encoded.

    Raises:
        FileNotFoundError: There is no such file.
        CannotSample: The betas are not positive.
        ValueError: The encoding is unknown, or the file is not a schedule.
    """
    from qattn.simulators.effective_beta import effective_betas
    from qattn.simulators.schedules import get_schedule

    encoding = FieldEncoding.parse(field_encoding)
    theory = effective_betas(get_schedule(schedule, annealing_time, sheet=encoding.sheet))
    return encoding.betas(theory, f"Schedule '{schedule}' at {annealing_time:g} ns")


def _check_time(settings: QPUSettings, solver: str, properties: Mapping[str, Any]) -> None:
    fast = settings.encoding.fast
    name = "fast_anneal_time_range" if fast else "annealing_time_range"
    if name not in properties:
        kind = "fast" if fast else "standard"
        raise ValueError(
            f"{solver} does not offer {kind} anneals: choose another solver"
            + (', or field_encoding="direct".' if fast else ".")
        )
    shortest, longest = (1e3 * time for time in properties[name])
    if not shortest * (1 - 1e-9) <= settings.annealing_time <= longest * (1 + 1e-9):
        raise ValueError(
            f"Argument `annealing_time` must be between {shortest:g} and {longest:g} ns on "
            f"{solver} with field_encoding={settings.field_encoding!r}, "
            f"but is {settings.annealing_time:g}."
        )
