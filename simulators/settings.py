"""The settings of a simulated quantum anneal, and the files that hold them."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from qattn.simulators import effective_beta
from qattn.simulators.encoding import FIELD_ENCODINGS
from qattn.simulators.schedules import AnnealSchedule, get_schedule


@dataclass(frozen=True)
class AnnealSettings:
    """Settings of a simulated quantum anneal.

    Args:
        schedule: An :class:`AnnealSchedule`, the name of an analytic form, or a table's file.
        annealing_time: Duration in ns; None means the schedule's own.
        sheet: "fast" or "standard", where the schedule is an xlsx file.
        field_encoding: "direct" or "ghost".
        betas: (β_h, β_J) to use instead of the schedule's.

    Raises:
        ValueError: `field_encoding` or `betas` has another value.
    """

    schedule: AnnealSchedule | str | Path = "linear"
    annealing_time: float | None = None
    sheet: str = "fast"
    field_encoding: str = "direct"
    betas: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.field_encoding not in FIELD_ENCODINGS:
            raise ValueError(
                f"Argument `field_encoding` must be 'direct' or 'ghost', "
                f"but is {self.field_encoding!r}."
            )
        if self.betas is not None and min(self.betas) <= 0:
            raise ValueError(
                f"Argument `betas` must be two positive numbers (β_h, β_J), but is {self.betas}."
            )

    def replaced(self, **changes: Any) -> "AnnealSettings":
        """These settings with every change that is not None.

        The betas are dropped where the schedule or its duration changes: they belong to it.
        """
        given = {key: value for key, value in changes.items() if value is not None}
        if given.keys() & {"schedule", "annealing_time"}:
            given.setdefault("betas", None)
        return replace(self, **given)

    def make_schedule(self) -> AnnealSchedule:
        """The schedule with its annealing time."""
        return get_schedule(self.schedule, self.annealing_time, sheet=self.sheet)

    def effective_betas(self, schedule: AnnealSchedule) -> tuple[float, float]:
        """The (β_h, β_J) by which a batch is divided: given ones, or those of first-order theory.

        Theory's is (β_J, β_J) with the ghost spin, where fields are couplings.

        Raises:
            ValueError: The schedule's are not positive, so that it cannot sample.
        """
        if self.betas is not None:
            return self.betas
        beta_h, beta_J = effective_beta.effective_betas(schedule)
        if (beta_h <= 0 and self.field_encoding == "direct") or beta_J <= 0:
            raise ValueError(
                f"Schedule {schedule.name!r} at {schedule.annealing_time:g} ns must have positive "
                f"effective inverse temperatures, but has β_h = {beta_h:.3g} and β_J = "
                f"{beta_J:.3g}: use another annealing_time."
            )
        return (beta_J, beta_J) if self.field_encoding == "ghost" else (beta_h, beta_J)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for TOML or JSON; None left out."""
        schedule = self.schedule
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["schedule"] = schedule.name if isinstance(schedule, AnnealSchedule) else schedule
        values["schedule"] = str(values["schedule"])
        if self.betas is not None:
            values["betas"] = list(self.betas)
        return {key: value for key, value in values.items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "AnnealSettings":
        """The settings of :meth:`to_dict`.

        Raises:
            ValueError: A key is unknown.
        """
        known = {field.name for field in fields(cls)}
        if not set(values) <= known:
            raise ValueError(
                f"Annealer settings must have keys among {', '.join(sorted(known))}, "
                f"but have {', '.join(sorted(set(values) - known))}."
            )
        given = dict(values)
        if given.get("betas") is not None:
            beta_h, beta_J = given["betas"]
            given["betas"] = (float(beta_h), float(beta_J))
        return cls(**given)


def load_settings(file: str | Path) -> AnnealSettings:
    """The recommended settings of a calibration file (TOML or JSON).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not a calibration.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"Argument `calibration` must be an existing file, but is {path}.")
    text = path.read_text(encoding="utf-8")
    try:
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        recommended = values["recommended"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} must be a calibration file with a table 'recommended' (TOML or JSON): {error}"
        ) from None
    return AnnealSettings.from_dict(recommended)
