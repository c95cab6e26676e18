"""Options of the backend "dwave", and the settings that they come to on a device."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qattn.backends.base import Backend
from qattn.backends.options import option
from qattn.hardware.calibration_file import DeviceCalibration, load_device_calibration
from qattn.hardware.calls.runner import RetryPolicy
from qattn.hardware.service.budget import parse_duration
from qattn.hardware.settings import CHOSEN_BY, QPUSettings, check_offered, theory_betas

AnnealSource = tuple[QPUSettings, NDArray[np.float64] | None, DeviceCalibration | None]
"""Settings, the covariance of their betas where it is known, and the calibration they are from."""


@dataclass(frozen=True, kw_only=True)
class DWaveOptions(Backend.Options):
    """How a QPU is reached and used; nothing is read or connected until the backend is opened.

    Raises:
        ValueError: An option has another value, or nothing says what β is.
    """

    calibration: str | Path | None = option(
        None, "File of `qattn calibrate --sampler dwave`, or a folder of them."
    )
    betas: tuple[float, float] | None = option(
        None, "(β_h, β_J) of the device, instead of a calibration's."
    )
    schedule: str | Path | None = option(
        None, "File of the device's published schedule, for the betas of theory."
    )
    annealing_time: float | None = option(
        None, "Duration of an anneal in ns (default: the calibration's)."
    )
    field_encoding: str | None = option(
        None, "How fields are programmed: ghost (the default), ancilla, or direct."
    )
    chain_strength: float | None = option(
        None,
        "Coupling within chains, device units (default: the calibration's, or the strongest "
        "that the device allows).",
    )
    spin_reversal_transforms: int = option(
        1, "Submissions, each under another gauge, among which a call's reads are divided."
    )
    readout_thermalization: float | None = option(
        None, "Pause in µs before each read is read out (default: the solver's)."
    )
    reduce_intersample_correlation: bool = option(
        False, "Pause between reads until the qubits have forgotten the read before."
    )
    out_of_range: str = option(
        "error", "What happens to a bias that the device cannot hold: error, or clip and count."
    )
    qpu_budget: str | float | None = option(
        None,
        "Ceiling on QPU access time, such as 30s or 2min (default: the credentials').",
        may_change=True,
    )
    journal: str | Path | None = option(
        None, "Folder of the journal (default: in the run's folder, or the user's data folder)."
    )
    credentials: str | Path | None = option(
        None, "File with the token (default: ./credentials.toml).", may_change=True
    )
    endpoint: str | None = option(None, "URL of the solver API.", may_change=True, marked=True)
    region: str | None = option(None, "Leap's region.", may_change=True)
    solver: str | dict[str, Any] | None = option(
        None,
        "The solver's name, or features as JSON text (in Python, also as a mapping).",
        may_change=True,
    )
    failover: bool = option(
        False,
        "Continue with another solver of the same features when one goes offline.",
        may_change=True,
    )
    follow_betas: bool = option(True, "Follow the device's betas through the reads.")
    max_in_flight: int = option(4, "Jobs at the service at a time.", may_change=True)
    retry_policy: RetryPolicy | None = option(
        None, "Retry and time-out limits of requests.", python_only=True, may_change=True
    )

    def __post_init__(self) -> None:
        # Check the values on their own, before the device is known, and then what is missing.
        if self.qpu_budget is not None:
            parse_duration(self.qpu_budget)
        QPUSettings(**({"annealing_time": 1.0} | self._settings()))
        if self.qpu_budget is not None:
            parse_duration(self.qpu_budget)
        if self.betas is None and self.calibration is None and self.schedule is None:
            raise ValueError(
                "The device's inverse temperatures are not known: run `qattn calibrate --sampler "
                "dwave` and pass its file as `calibration` (--calibration), or pass `betas` "
                "(--betas), or the device's published `schedule` (--schedule)."
            )
        if self.calibration is None and self.annealing_time is None:
            raise ValueError(
                "Argument `annealing_time` must be given, in ns, where no `calibration` is."
            )

    def settings_for(self, solver: str, properties: Mapping[str, Any]) -> AnnealSource:
        """The settings for a device; reads the calibration or the schedule.

        Args:
            solver: Name of the solver.
            properties: Its properties, as D-Wave publishes them.

        Returns:
            The settings, the covariance of the betas if the calibration gave them, and the
            calibration, if there is one.

        Raises:
            FileNotFoundError: There is no such calibration or schedule.
            ValueError: They are of another device, or do not hold the settings that were chosen.
        """
        strongest = -float(properties.get("extended_j_range", properties["j_range"])[0])
        values: dict[str, Any] = {"chain_strength": strongest} | self._settings()
        covariance, calibration = None, None
        if self.calibration is not None:
            calibration = load_device_calibration(self.calibration, solver)
            point = calibration.point(**{name: getattr(self, name) for name in CHOSEN_BY})
            values |= {name: getattr(point, name) for name in CHOSEN_BY}
            if self.betas is None:
                values["betas"] = (point.beta_h, point.beta_J)
                covariance = np.array(point.covariance)
        elif self.betas is None:
            assert self.schedule is not None
            encoding = values.get("field_encoding", "ghost")
            values["betas"] = theory_betas(self.schedule, values["annealing_time"], encoding)
        settings = QPUSettings(**values)
        check_offered(settings, solver, properties)
        return settings, covariance, calibration

    def _settings(self) -> dict[str, Any]:
        """Those of the options that are settings of an anneal, where they are given."""
        values = {name: getattr(self, name) for name in QPUSettings.__dataclass_fields__}
        return {name: value for name, value in values.items() if value is not None}
