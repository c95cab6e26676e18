"""The files of calibrations: one format for simulated annealers and QPUs, told apart by a kind.

A file (TOML, or JSON where its name ends in .json) holds ``format``, ``kind``, what the annealer
and the problems were, ``points``, a table with a row for each setting that was measured, and
``recommended``, the index of the best of them. The columns that both kinds have are
``annealing_time`` (ns), ``field_encoding``, ``beta_h``, ``beta_J`` (fitted) and ``theory`` (the
pair of first-order theory).
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import tomli_w

from qattn._atomic import write_atomically

FORMAT = 2
"""Version of the files."""


class Kind(NamedTuple):
    """A kind of annealer: what it is called, and the command that calibrates it."""

    annealer: str
    command: str


KINDS = {
    "simulator": Kind("a simulated annealer", "qattn calibrate"),
    "qpu": Kind("a QPU", "qattn calibrate --sampler dwave"),
}
"""The kinds of calibrations, by the ``kind`` in their files."""

Point = TypeVar("Point")
AnyCalibration = TypeVar("AnyCalibration", bound="Calibration[Any]")


class Calibration(Generic[Point]):
    """A calibration of one kind: measured settings, the best of them, and the file of both.

    A subclass is a frozen dataclass whose fields are the file's values.

    Attributes:
        kind: A key of :data:`KINDS`.
        point_type: The dataclass of a point, whose fields are the columns of the table.
        points: The settings that were measured, in the order of measurement.
        recommended: Index of the best one.
    """

    kind: ClassVar[str]
    point_type: ClassVar[type]
    points: tuple[Point, ...]
    recommended: int

    @property
    def best(self) -> Point:
        """The recommended setting."""
        return self.points[self.recommended]

    def curves(self, *names: str) -> dict[tuple[Any, ...], list[Point]]:
        """The points by the values of these attributes, each list in order of annealing time."""
        curves: dict[tuple[Any, ...], list[Point]] = {}
        for point in self.points:
            curves.setdefault(tuple(getattr(point, name) for name in names), []).append(point)
        time = attrgetter("annealing_time")
        return {values: sorted(points, key=time) for values, points in curves.items()}

    def save(self, file: str | Path) -> None:
        """Write a file that backends take as ``calibration``: JSON if so named, else TOML."""
        path = Path(file)
        values = {"format": FORMAT, "kind": self.kind} | asdict(self)  # type: ignore[call-overload]
        # TOML has no null: what is not known is left out.
        values = {name: value for name, value in values.items() if value is not None}
        values["points"] = [
            {name: value for name, value in point.items() if value is not None}
            for point in values["points"]
        ]
        text = json.dumps(values, indent=2) if path.suffix == ".json" else tomli_w.dumps(values)
        write_atomically(path, text.encode())

    @classmethod
    def load(cls: type[AnyCalibration], file: str | Path) -> AnyCalibration:
        """The calibration that a file holds.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is not a calibration, or one of the other kind.
        """
        return cls.from_values(read_calibration(file, cls.kind), file)

    @classmethod
    def from_values(
        cls: type[AnyCalibration], values: Mapping[str, Any], file: str | Path
    ) -> AnyCalibration:
        """The calibration with the values of :func:`read_calibration`.

        Raises:
            ValueError: A value is missing, unknown or wrong; `file` is named.
        """
        given = {name: v for name, v in values.items() if name not in ("format", "kind", "points")}
        try:
            points = [
                cls.point_type(**{name: _as_tuple(value) for name, value in point.items()})
                for point in values.get("points", ())
            ]
            if given.get("recommended") not in range(len(points)):
                raise ValueError(
                    f"`recommended` must be the index of one of {len(points)} points, "
                    f"but is {given.get('recommended')}"
                )
            return cls(**given | {"points": tuple(points)})
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(_refusal(cls.kind, file, f"is no calibration ({error})")) from None


def read_calibration(file: str | Path, kind: str) -> dict[str, Any]:
    """The plain values of a calibration file of one kind.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not a calibration, or one of the other kind.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"Argument `calibration` must be an existing file, but is {path}.")
    try:
        text = path.read_text(encoding="utf-8")
        values = dict(json.loads(text) if path.suffix == ".json" else tomllib.loads(text))
        # Format 1: of a QPU without a format, of a simulator without a kind.
        simulated = isinstance(values.get("recommended"), dict)
        kind_of_file = values.get("kind", "simulator" if simulated else None)
        version = int(values.get("format", 1))
        if kind_of_file not in KINDS:
            raise ValueError(f"its `kind` is {kind_of_file!r}")
    except (ValueError, TypeError) as error:
        raise ValueError(_refusal(kind, path, f"is no calibration ({error})")) from None
    if kind_of_file != kind:
        raise ValueError(_refusal(kind, path, f"is one of {KINDS[kind_of_file].annealer}"))
    if version > FORMAT:
        reason = f"has format {version}, and this version of qattn reads up to {FORMAT}"
        raise ValueError(_refusal(kind, path, reason))
    return values


def check_writable(file: str | Path) -> None:
    """Make the folder of a calibration file, and fail now if the file cannot be written later.

    Raises:
        OSError: The file cannot be written.
    """
    path = Path(file)
    probe = path.with_name(path.name + ".probe")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(
            f"Argument `out` must be a file that can be written, but {path} is not: "
            f"{error.strerror}."
        ) from None


def _refusal(kind: str, file: str | Path, reason: str) -> str:
    annealer, command = KINDS[kind]
    return (
        f"Argument `calibration` must be a calibration of {annealer}, but {file} {reason}: "
        f"run `{command}`."
    )


def _as_tuple(value: Any) -> Any:
    """Lists of a file as the tuples of a frozen dataclass, at any depth."""
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value
