"""Calibration of a simulated annealer: which schedule, time and field encoding to use."""

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from qattn.field_encoding import SIMULATED, CannotSample, FieldEncoding
from qattn.ising.batch import IsingBatch
from qattn.ising.states import states
from qattn.pseudolikelihood import fit_betas
from qattn.simulators.calibration.calibration_file import SimulatorCalibration, SimulatorPoint
from qattn.simulators.diabatic import DiabaticBackend
from qattn.simulators.problems_by_size import problems_by_size
from qattn.simulators.quantum_annealing import QuantumAnnealingSimulator
from qattn.simulators.settings import AnnealSettings


def calibrate_simulator(
    batch: IsingBatch,
    *,
    schedules: Sequence[str | Path] = ("linear",),
    annealing_times: Sequence[float] = (1.0, 2.0, 3.0, 5.0, 10.0),
    field_encodings: Sequence[str] = SIMULATED,
    sheet: str = "fast",
    backend: type[QuantumAnnealingSimulator] = DiabaticBackend,
    progress: Callable[[AnnealSettings], None] = lambda settings: None,
    **options: Any,
) -> SimulatorCalibration:
    """Judge every combination of schedule, annealing time and field encoding on a set of problems.

    Each is judged by its exact divergence from the targets, with theory's betas and with fitted
    ones. Settings whose effective inverse temperatures are not positive cannot sample and are left
    out.

    Args:
        batch: The problems, with their β; at most about 12 spins are affordable.
        schedules: Names of analytic forms, or files of published tables.
        annealing_times: Durations in ns.
        field_encodings: "direct", "ghost".
        sheet: For files: "fast" or "standard".
        backend: The simulated annealer to judge.
        progress: Called with each combination of settings before it is judged or left out.
        **options: Further arguments of the backend.

    Raises:
        ValueError: No setting can sample, an argument has another value, or the problems have
            neither fields nor couplings.
    """
    points: list[SimulatorPoint] = []
    for schedule, time, encoding in itertools.product(schedules, annealing_times, field_encodings):
        settings = AnnealSettings(schedule, time, sheet=sheet, field_encoding=encoding)
        progress(settings)
        try:
            settings.effective_betas(settings.make_schedule())
        except CannotSample:
            continue
        points.append(_judge(batch, settings, backend, options))
    if not points:
        raise ValueError(
            f"Argument `annealing_times` must hold a time at which some schedule has positive "
            f"effective inverse temperatures, but is {list(annealing_times)}."
        )
    return SimulatorCalibration(
        num_problems=int((batch.num_active > 0).sum()),
        num_spins=batch.num_spins,
        uniform_divergence=uniform_divergence(batch),
        points=tuple(points),
        recommended=min(range(len(points)), key=lambda i: points[i].least_divergence),
    )


def uniform_divergence(batch: IsingBatch) -> float:
    r"""Mean divergence of the uniform distribution from the targets, nats.

    .. math:: D(u \| p) = \log Z - n \log 2

    for each problem of n spins: over all states, its fields and couplings average to 0.
    """
    total, count = 0.0, 0
    for problems in problems_by_size(batch, (1.0, 1.0), FieldEncoding.DIRECT):
        number, num_states = len(problems.h), 1 << problems.n
        uniform = torch.full((number, num_states), 1 / num_states, dtype=torch.float64)
        total += float(problems.divergence(uniform.to(problems.h.device)).sum())
        count += number
    return total / count if count else math.nan


def _judge(
    batch: IsingBatch,
    settings: AnnealSettings,
    backend: type[QuantumAnnealingSimulator],
    options: dict[str, Any],
) -> SimulatorPoint:
    """One setting, judged with theory's betas and with those fitted to the output."""
    annealer = backend(**vars(settings), **options)
    theory = annealer.beta_h, annealer.beta_J
    present = torch.from_numpy(batch.num_active > 0).to(batch.h.device)
    with_theory = annealer.divergence(batch)[present]
    # The problems were divided by theory's betas and came out at `factor` times the target's β:
    # the anneal's own betas are theory's times that. Where the problems have no fields or no
    # couplings, nothing fixes the factor, and theory's beta stands.
    factors = [1.0 if math.isnan(f) else f for f in _fitted_factors(batch, annealer)]
    beta_h, beta_J = theory[0] * factors[0], theory[1] * factors[1]
    # Programmed with the fitted betas, if an anneal with such betas can sample at all.
    with_fitted = with_theory
    if min(beta_h, beta_J) > 0:
        refitted = settings.replaced(betas=(beta_h, beta_J))
        with_fitted = backend(**vars(refitted), **options).divergence(batch)[present]
    better = with_fitted if float(with_fitted.mean()) < float(with_theory.mean()) else with_theory
    return SimulatorPoint(
        schedule=str(settings.schedule),
        sheet=settings.used_sheet,
        annealing_time=annealer.schedule.annealing_time,
        field_encoding=settings.encoding.value,
        theory=theory,
        beta_h=beta_h,
        beta_J=beta_J,
        divergence=float(with_theory.mean()),
        fitted_divergence=float(with_fitted.mean()),
        worst_divergence=float(better.max()),
    )


def _fitted_factors(batch: IsingBatch, annealer: QuantumAnnealingSimulator) -> tuple[float, float]:
    """(β_h, β_J) of the output in units of the target's; nan for one that nothing fixes."""
    G, Q, n = batch.h.shape
    h, J = (x.detach() for x in batch.scaled())
    # One problem for each query: its group's couplings, without those of absent spins.
    active = batch.active.expand(G, Q, n).reshape(G * Q, n)
    J = J.repeat_interleave(Q, 0) * active.unsqueeze(1) * active.unsqueeze(2)
    # All states with their exact probabilities stand in for reads: a fit without noise.
    fit = fit_betas(
        h.reshape(G * Q, n),
        J,
        states(n, torch.float64, h.device),
        annealer.probabilities(batch).reshape(G * Q, -1),
        active,
    )
    return fit.beta_h, fit.beta_J
