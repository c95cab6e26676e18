r"""Anneal schedules: A(s) and B(s) of the hardware, s(t) of the user, and the phase they add up to.

Convention of D-Wave's documentation: energies in GHz (divided by the Planck constant), times in
ns, so a phase is 2π · GHz · ns. Everything is linear between tabulated points, and every integral
over time here is the exact integral of that interpolation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qattn.simulators.schedule_files import read_schedule

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class AnnealSchedule:
    r"""Transverse-field annealing H(t) = 2π(-A(s)/2 Σ_j σx_j + B(s)/2 (Σ h σz + Σ J σz σz)).

    A and B are linear between the points of their table, s(t) between the points of `path`, so A
    and B are linear in time between :attr:`times`.

    Args:
        s: Tabulated anneal fractions, increasing from 0 to 1.
        A: Transverse-field energies at `s`, GHz.
        B: Problem energies at `s`, GHz.
        annealing_time: Duration T in ns.
        path: Points (t, s) in ns of a piecewise-linear s(t), as the QPU's ``anneal_schedule`` takes
            them (in µs there), from (0, 0) to (annealing_time, 1); None for s = t/T.
        name: What the schedule is called in tables and files.

    Raises:
        ValueError: An argument is not of this form.
    """

    s: FloatArray
    A: FloatArray
    B: FloatArray
    annealing_time: float
    path: Sequence[tuple[float, float]] | None = None
    name: str = "custom"

    def __post_init__(self) -> None:
        for field in ("s", "A", "B"):
            object.__setattr__(self, field, np.asarray(getattr(self, field), dtype=np.float64))
        if not (self.annealing_time > 0 and math.isfinite(self.annealing_time)):
            raise ValueError(
                f"Argument `annealing_time` must be positive (ns), but is {self.annealing_time}."
            )
        _check_table(self.s, self.A, self.B)
        if self.path is not None:
            _check_path(self.path, self.annealing_time)

    @classmethod
    def linear(
        cls, annealing_time: float = 3.0, *, A0: float = 1.0, B0: float = 1.0
    ) -> "AnnealSchedule":
        r"""The schedule A = A0 (1 - s), B = B0 s, in GHz."""
        return cls(
            np.array([0.0, 1.0]),
            np.array([A0, 0.0]),
            np.array([0.0, B0]),
            annealing_time,
            name="linear",
        )

    @classmethod
    def quadratic(
        cls, annealing_time: float = 3.0, *, A0: float = 1.0, B0: float = 1.0
    ) -> "AnnealSchedule":
        r"""The schedule A = A0 (1 - s)², B = B0 s, in GHz: the transverse field ends softly."""
        s = np.linspace(0, 1, 1001)
        return cls(s, A0 * (1 - s) ** 2, B0 * s, annealing_time, name="quadratic")

    @classmethod
    def flux_qubit(
        cls, annealing_time: float = 5.0, *, A0: float = 10.0, B0: float = 14.0, decay: float = 10.0
    ) -> "AnnealSchedule":
        r"""The schedule A = A0 (e^{-ks} - e^{-k})/(1 - e^{-k}), B = B0 s, in GHz, k = `decay`.

        The shape of a superconducting QPU's schedule, for use where no published table is at
        hand; it is not the calibration of any real QPU.
        """
        s = np.linspace(0, 1, 1001)
        A = A0 * (np.exp(-decay * s) - math.exp(-decay)) / -math.expm1(-decay)
        return cls(s, A, B0 * s, annealing_time, name="flux_qubit")

    @classmethod
    def from_file(
        cls,
        file: str | Path,
        annealing_time: float,
        *,
        sheet: str = "fast",
        path: Sequence[tuple[float, float]] | None = None,
    ) -> "AnnealSchedule":
        """A schedule from D-Wave's published table: an xlsx file or a CSV.

        An xlsx file has a ``sheet`` for "fast" anneals and one for "standard" ones. The columns are
        ``s``, ``A(s) (GHz)`` and ``B(s) (GHz)``; others are ignored.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is not of this form.
        """
        s, A, B = read_schedule(Path(file), sheet)
        of_sheet = f":{sheet}" if Path(file).suffix.lower() == ".xlsx" else ""
        return cls(s, A, B, annealing_time, path, name=f"{Path(file).stem}{of_sheet}")

    def with_annealing_time(self, annealing_time: float) -> "AnnealSchedule":
        """The schedule of the same A(s) and B(s) with s(t) stretched to another duration (ns)."""
        path = self.path
        if path is not None:
            stretch = annealing_time / self.annealing_time
            path = [(t * stretch, s) for t, s in path[:-1]] + [(annealing_time, 1.0)]
        return replace(self, annealing_time=annealing_time, path=path)

    @cached_property
    def times(self) -> FloatArray:
        """Times in ns between which A and B are linear, from 0 to the annealing time."""
        t, s = np.array(self.path or [(0.0, 0.0), (self.annealing_time, 1.0)]).T
        # The path's own points, and within each of its pieces the times at which s(t) passes a
        # tabulated value (none where it pauses).
        pieces = [t]
        for t0, t1, s0, s1 in zip(t[:-1], t[1:], s[:-1], s[1:], strict=True):
            inside = self.s[(self.s > min(s0, s1)) & (self.s < max(s0, s1))]
            pieces.append(t0 + (t1 - t0) * (inside - s0) / (s1 - s0) if s1 != s0 else inside)
        return np.unique(np.concatenate(pieces))

    def at(self, times: float | FloatArray) -> tuple[FloatArray, FloatArray]:
        """The energies A and B in GHz at these times (ns)."""
        t, s = np.array(self.path or [(0.0, 0.0), (self.annealing_time, 1.0)]).T
        fraction = np.interp(times, t, s)
        A, B = (np.asarray(np.interp(fraction, self.s, values)) for values in (self.A, self.B))
        return A, B

    def areas(self, times: float | FloatArray) -> tuple[FloatArray, FloatArray]:
        """The integrals ∫A dt and ∫B dt from 0 to these times (ns), in GHz·ns."""
        knots = self.times
        times = np.asarray(times, dtype=np.float64)
        # The cell between two knots in which each time lies, and how far it is from its start.
        cell = np.clip(np.searchsorted(knots, times, side="right") - 1, 0, len(knots) - 2)
        step = times - knots[cell]
        areas = []
        for at_knots, at_times in zip(self.at(knots), self.at(times), strict=True):
            # A trapezoid is exact between knots: whole cells before, and a part of the last one.
            whole = np.cumsum((at_knots[1:] + at_knots[:-1]) / 2 * np.diff(knots))
            before = np.concatenate([[0.0], whole])
            areas.append(np.asarray(before[cell] + (at_knots[cell] + at_times) / 2 * step))
        return areas[0], areas[1]

    def phase(self, times: float | FloatArray) -> FloatArray:
        r"""The phase φ(t) = 2π ∫_t^T A dt' in radians: the turn of a spin about x until readout."""
        whole = self.areas(self.annealing_time)[0]
        return np.asarray(2 * np.pi * (whole - self.areas(times)[0]))


NAMED = {
    "linear": AnnealSchedule.linear,
    "quadratic": AnnealSchedule.quadratic,
    "flux_qubit": AnnealSchedule.flux_qubit,
}
"""Analytic schedules by name."""


def get_schedule(
    schedule: AnnealSchedule | str | Path,
    annealing_time: float | None = None,
    *,
    sheet: str = "fast",
) -> AnnealSchedule:
    """The schedule of a name, of a published table's file, or of an :class:`AnnealSchedule`.

    Args:
        schedule: An :class:`AnnealSchedule`, a key of :data:`NAMED`, or the path of a file.
        annealing_time: Duration in ns; None keeps the schedule's own (5 ns for a file).
        sheet: For an xlsx file: "fast" or "standard".

    Raises:
        ValueError: There is no such name, or the file is of the wrong form.
        FileNotFoundError: There is no such file.

    >>> schedule = get_schedule("linear", annealing_time=4.0)
    >>> A, B = schedule.at(1.0)
    >>> float(A), float(B)
    (0.75, 0.25)
    """
    if isinstance(schedule, AnnealSchedule):
        if annealing_time is None or annealing_time == schedule.annealing_time:
            return schedule
        return schedule.with_annealing_time(annealing_time)
    if str(schedule) in NAMED:
        make = NAMED[str(schedule)]
        return make() if annealing_time is None else make(annealing_time)
    if Path(schedule).suffix.lower() not in (".xlsx", ".csv"):
        raise ValueError(
            f"Argument `schedule` must be one of {', '.join(NAMED)} or the path of an xlsx or csv "
            f"file, but is {str(schedule)!r}."
        )
    return AnnealSchedule.from_file(
        schedule, 5.0 if annealing_time is None else annealing_time, sheet=sheet
    )


def _check_table(s: FloatArray, A: FloatArray, B: FloatArray) -> None:
    if s.ndim != 1 or len(s) < 2 or A.shape != s.shape or B.shape != s.shape:
        raise ValueError(
            f"Arguments `s`, `A` and `B` must be of one length, at least 2, but have shapes "
            f"{s.shape}, {A.shape} and {B.shape}."
        )
    if s[0] != 0 or s[-1] != 1 or not (np.diff(s) > 0).all():
        raise ValueError(
            f"Argument `s` must increase from 0 to 1, but runs from {s[0]} to {s[-1]}"
            f"{'' if (np.diff(s) > 0).all() else ' and does not always increase'}."
        )
    for name, value in (("A", A), ("B", B)):
        if not (np.isfinite(value).all() and (value >= 0).all()):
            raise ValueError(
                f"Argument `{name}` must be finite and not negative (GHz), "
                f"but ranges from {value.min()} to {value.max()}."
            )


def _check_path(path: Sequence[tuple[float, float]], annealing_time: float) -> None:
    points = np.asarray(path, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 2:
        raise ValueError(f"Argument `path` must be a list of points (t, s), but is {path!r}.")
    t, s = points.T
    if (t[0], s[0], t[-1], s[-1]) != (0.0, 0.0, annealing_time, 1.0):
        raise ValueError(
            f"Argument `path` must run from (0, 0) to (annealing_time, 1) = ({annealing_time}, 1), "
            f"but runs from ({t[0]:g}, {s[0]:g}) to ({t[-1]:g}, {s[-1]:g})."
        )
    if not (np.diff(t) > 0).all() or (s < 0).any() or (s > 1).any():
        raise ValueError(
            f"Argument `path` must have increasing times and s between 0 and 1, but is {path!r}."
        )
