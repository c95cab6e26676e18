"""The settings of a simulated quantum anneal."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from qattn.field_encoding import SIMULATED, FieldEncoding
from qattn.simulators import effective_beta
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
        encoding = FieldEncoding.parse(self.field_encoding, SIMULATED)
        object.__setattr__(self, "field_encoding", encoding.value)  # a plain string, for files
        if self.betas is not None and min(self.betas) <= 0:
            raise ValueError(
                f"Argument `betas` must be two positive numbers (β_h, β_J), but is {self.betas}."
            )

    @property
    def encoding(self) -> FieldEncoding:
        """How fields are programmed."""
        return FieldEncoding(self.field_encoding)

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

        Raises:
            CannotSample: The schedule's are not positive, as the encoded fields see them.
        """
        if self.betas is not None:
            return self.betas
        anneal = f"Schedule {schedule.name!r} at {schedule.annealing_time:g} ns"
        return self.encoding.betas(effective_beta.effective_betas(schedule), anneal)

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
