r"""Calibration of a simulated annealer: which schedule, time and field encoding to use."""

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tomli_w
import torch

from qattn.ising import IsingBatch
from qattn.pseudolikelihood import fit_betas
from qattn.simulators.diabatic import DiabaticBackend
from qattn.simulators.encoding import program
from qattn.simulators.quantum_annealing import SimulatedAnnealer
from qattn.simulators.schedules import AnnealSchedule
from qattn.simulators.settings import AnnealerSettings
from qattn.states import states

FORMAT = 1
"""Version of the calibration file."""


@dataclass(frozen=True)
class CalibrationPoint:
    r"""One setting, judged with exact probabilities, so without sampling noise.

    Attributes:
        schedule: Name or file of the schedule.
        sheet: Sheet of the file.
        annealing_time: Duration in ns.
        field_encoding: "direct" or "ghost".
        theory_beta_h: β_h of first-order theory (with "ghost", that of couplings).
        theory_beta_J: β_J of first-order theory.
        fitted_beta_h: β_h that pseudo-likelihood finds in the output of a problem programmed with
            theory's betas.
        fitted_beta_J: The same for couplings.
        divergence: Mean Kullback-Leibler divergence from the target when programmed with
            theory's betas, nats.
        fitted_divergence: The same when programmed with the fitted betas.
        worst_divergence: The largest of the problems, with the better of the two.
    """

    schedule: str
    sheet: str
    annealing_time: float
    field_encoding: str
    theory_beta_h: float
    theory_beta_J: float
    fitted_beta_h: float
    fitted_beta_J: float
    divergence: float
    fitted_divergence: float
    worst_divergence: float


@dataclass(frozen=True)
class Calibration:
    """What :func:`calibrate` found.

    Attributes:
        points: One per setting that can sample, in the order tried.
        recommended: The setting of least mean divergence, with the betas that gave it.
        num_problems: Number of problems judged.
        num_spins: Largest number of spins among them.
        uniform_divergence: Mean divergence of the uniform distribution from the targets, nats:
            what a sampler that ignores the problem would have.
    """

    points: tuple[CalibrationPoint, ...]
    recommended: AnnealerSettings
    num_problems: int
    num_spins: int
    uniform_divergence: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for TOML or JSON."""
        return {
            "format": FORMAT,
            "num_problems": self.num_problems,
            "num_spins": self.num_spins,
            "uniform_divergence": self.uniform_divergence,
            "recommended": self.recommended.to_dict(),
            "points": [asdict(point) for point in self.points],
        }

    def save(self, file: str | Path) -> None:
        """Write a file that backends take as ``calibration``: JSON if so named, else TOML."""
        path = Path(file)
        values = self.to_dict()
        text = json.dumps(values, indent=2) if path.suffix == ".json" else tomli_w.dumps(values)
        path.write_text(text, encoding="utf-8")


def calibrate(
    batch: IsingBatch,
    *,
    schedules: Sequence[str | Path] = ("linear",),
    annealing_times: Sequence[float] = (1.0, 2.0, 3.0, 5.0, 10.0),
    field_encodings: Sequence[str] = ("direct", "ghost"),
    sheet: str = "fast",
    backend: type[SimulatedAnnealer] = DiabaticBackend,
    **options: Any,
) -> Calibration:
    """Judge every combination of schedule, annealing time and field encoding on a set of problems.

    Settings whose effective inverse temperatures are not positive cannot sample and are left out.

    Args:
        batch: The problems, with their β; at most about 12 spins are affordable.
        schedules: Names of analytic forms, or files of published tables.
        annealing_times: Durations in ns.
        field_encodings: "direct", "ghost".
        sheet: For files: "fast" or "standard".
        backend: The simulated annealer to judge.
        **options: Further arguments of the backend.

    Raises:
        ValueError: No setting can sample, an argument has another value, or the problems have
            neither fields nor couplings.
    """
    points: list[CalibrationPoint] = []
    chosen: list[AnnealerSettings] = []
    for schedule, time, encoding in itertools.product(schedules, annealing_times, field_encodings):
        settings = AnnealerSettings(schedule, time, sheet, encoding)
        try:
            settings.effective_betas(settings.make_schedule())
        except ValueError as error:
            if "effective inverse temperatures" not in str(error):
                raise
            continue
        point, best = _judge(batch, settings, backend, options)
        points.append(point)
        chosen.append(best)
    if not points:
        raise ValueError(
            f"Argument `annealing_times` must hold a time at which some schedule has positive "
            f"effective inverse temperatures, but is {list(annealing_times)}."
        )
    winner = min(range(len(points)), key=lambda i: _least(points[i]))
    return Calibration(
        tuple(points),
        chosen[winner],
        int((batch.num_active > 0).sum()),
        batch.num_spins,
        uniform_divergence(batch),
    )


def uniform_divergence(batch: IsingBatch) -> float:
    r"""Mean of log Z - n log 2 - mean log-weight: the uniform distribution's divergence, nats."""
    total, count = 0.0, 0
    for some in program(batch, 1.0, 1.0, "direct"):
        uniform = torch.full((len(some.h), 1 << some.n), 0.5**some.n, dtype=torch.float64)
        total += float(some.divergence(uniform.to(some.h.device)).sum())
        count += len(some.h)
    return total / count if count else math.nan


def _judge(
    batch: IsingBatch,
    settings: AnnealerSettings,
    backend: type[SimulatedAnnealer],
    options: dict[str, Any],
) -> tuple[CalibrationPoint, AnnealerSettings]:
    annealer = _annealer(backend, settings, options)
    theory = annealer.beta_h, annealer.beta_J
    present = torch.from_numpy(batch.num_active > 0).to(batch.h.device)
    divergence = annealer.divergence(batch)[present]
    # scale times the target's β came out where it was divided by theory's betas, which stand
    # where the problems have no fields or no couplings to fix the scale.
    scales = (1.0 if math.isnan(scale) else scale for scale in _fitted_scales(batch, annealer))
    fitted = theory[0] * next(scales), theory[1] * next(scales)
    refitted = settings.replaced(betas=fitted) if min(fitted) > 0 else settings
    again = _annealer(backend, refitted, options).divergence(batch)[present]
    better = refitted if float(again.mean()) < float(divergence.mean()) else settings
    point = CalibrationPoint(
        schedule=str(settings.schedule),
        sheet=settings.sheet,
        annealing_time=annealer.schedule.annealing_time,
        field_encoding=settings.field_encoding,
        theory_beta_h=theory[0],
        theory_beta_J=theory[1],
        fitted_beta_h=fitted[0],
        fitted_beta_J=fitted[1],
        divergence=float(divergence.mean()),
        fitted_divergence=float(again.mean()),
        worst_divergence=float((again if better is refitted else divergence).max()),
    )
    return point, better


def _fitted_scales(batch: IsingBatch, annealer: SimulatedAnnealer) -> tuple[float, float]:
    """(β_h, β_J) of the output in units of the target's; nan for one that nothing fixes."""
    G, Q, n = batch.h.shape
    h, J = (x.detach() for x in batch.scaled())
    active = batch.active.expand(G, Q, n).reshape(G * Q, n)
    J = J.repeat_interleave(Q, 0) * active.unsqueeze(1) * active.unsqueeze(2)
    found = fit_betas(
        h.reshape(G * Q, n),
        J,
        states(n, torch.float64, h.device),
        annealer.probabilities(batch).reshape(G * Q, -1),
        active,
    )
    return found.beta_h, found.beta_J


def _annealer(
    backend: type[SimulatedAnnealer], settings: AnnealerSettings, options: dict[str, Any]
) -> SimulatedAnnealer:
    schedule = settings.schedule
    assert not isinstance(schedule, AnnealSchedule)
    return backend(
        schedule,
        settings.annealing_time,
        sheet=settings.sheet,
        field_encoding=settings.field_encoding,
        betas=settings.betas,
        **options,
    )


def _least(point: CalibrationPoint) -> float:
    return min(point.divergence, point.fitted_divergence)
