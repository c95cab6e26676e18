"""The settings of a simulated quantum anneal."""

from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any

from qattn.backends.base import Backend
from qattn.backends.options import option
from qattn.field_encoding import SIMULATED, FieldEncoding
from qattn.simulators import effective_beta
from qattn.simulators.schedules import AnnealSchedule, get_schedule

DEFAULTS = {"schedule": "linear", "field_encoding": "direct"}
"""What None means for these settings."""

DEFAULT_SHEET = "fast"
"""What None means for the sheet of a workbook."""


@dataclass(frozen=True)
class AnnealSettings(Backend.Options):
    """Settings of a simulated quantum anneal, and as such options of its backends.

    Raises:
        ValueError: `field_encoding` or `betas` has another value.
    """

    schedule: AnnealSchedule | str | Path | None = option(
        None,
        "linear (the default), quadratic or flux_qubit, or the file of a published table "
        "(xlsx or csv); in Python, also an AnnealSchedule.",
    )
    annealing_time: float | None = option(
        None, "Duration of an anneal in ns (default: the schedule's own)."
    )
    _: KW_ONLY
    sheet: str | None = option(None, "fast (the default) or standard, of an xlsx file.")
    field_encoding: str | None = option(
        None, "How fields are programmed: direct (the default) or ghost."
    )
    betas: tuple[float, float] | None = option(
        None, "(β_h, β_J) by which to divide instead of the schedule's."
    )

    def __post_init__(self) -> None:
        if self.field_encoding is not None:
            encoding = FieldEncoding.parse(self.field_encoding, SIMULATED)
            object.__setattr__(self, "field_encoding", encoding.value)  # a plain string, for files
        if self.betas is not None and min(self.betas) <= 0:
            raise ValueError(
                f"Argument `betas` must be two positive numbers (β_h, β_J), but is {self.betas}."
            )

    @property
    def used_sheet(self) -> str | None:
        """The sheet that is read of the schedule's workbook; None for a schedule without sheets."""
        name = "" if isinstance(self.schedule, AnnealSchedule) else str(self.schedule)
        return (self.sheet or DEFAULT_SHEET) if name.lower().endswith(".xlsx") else None

    @property
    def encoding(self) -> FieldEncoding:
        """How fields are programmed."""
        return FieldEncoding(self.field_encoding or DEFAULTS["field_encoding"])

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
        schedule = DEFAULTS["schedule"] if self.schedule is None else self.schedule
        return get_schedule(schedule, self.annealing_time, sheet=self.sheet or DEFAULT_SHEET)

    def effective_betas(self, schedule: AnnealSchedule) -> tuple[float, float]:
        """The (β_h, β_J) by which a batch is divided: given ones, or those of first-order theory.

        Raises:
            CannotSample: The schedule's are not positive, as the encoded fields see them.
        """
        if self.betas is not None:
            return self.betas
        anneal = f"Schedule {schedule.name!r} at {schedule.annealing_time:g} ns"
        return self.encoding.betas(effective_beta.effective_betas(schedule), anneal)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for TOML or JSON; what has no default and is None is left out."""
        values = {
            name: DEFAULTS.get(name) if value is None else value
            for name, value in vars(self).items()
        }
        if isinstance(self.schedule, AnnealSchedule):
            values["schedule"] = self.schedule.name
        values |= {"schedule": str(values["schedule"]), "sheet": self.used_sheet}
        if self.betas is not None:
            values["betas"] = list(self.betas)
        return {name: value for name, value in values.items() if value is not None}
