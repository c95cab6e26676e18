r"""Calibration of a QPU: β_h and β_J against annealing time, chain strength and field encoding.

A device that samples :math:`P(s) \propto \exp(-\beta_h \sum h s - \beta_J \sum J s s)` in the
biases it is programmed with is given a batch of problems, and the two betas are fitted to all
reads at once by pseudo-likelihood (:mod:`qattn.pseudolikelihood`), with problems as clusters, so
that a device's control errors are part of the stated uncertainty. The problems are then programmed
anew with the fitted betas, until these do not change: they are measured in the regime in which
they will be used.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from qattn import exact
from qattn.hardware.calibration_file import DeviceCalibration, DevicePoint
from qattn.hardware.calls.plan import Request
from qattn.hardware.calls.session import Session
from qattn.hardware.calls.tracking import fitted_betas
from qattn.hardware.flux_shim import FluxShim
from qattn.hardware.settings import QPUSettings, theory_betas
from qattn.hardware.shim import shim_chains
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples
from qattn.pseudolikelihood import BetaFit

MAX_ROUNDS = 6
"""Largest number of times that a point's problems are programmed."""

BETA_TOLERANCE = 0.1
"""Relative change of the betas from round to round below which they count as converged."""

INITIAL_RANGE_FRACTION = 0.5
"""Largest bias of the first round, as a fraction of the device's range."""


def calibrate_device(
    session: Session,
    batch: IsingBatch,
    points: Sequence[QPUSettings],
    *,
    num_reads: int = 100,
    schedule: str | Path | None = None,
    seed: int = 0,
    described: str = "",
    shim_corrections: int | None = None,
    progress: Callable[[QPUSettings], None] = lambda settings: None,
) -> DeviceCalibration:
    """Measure a device's betas at each point on a batch of problems.

    Args:
        session: Session with the device; it keeps the settings of the last point.
        batch: Problems of at most about 16 spins; 40 or more, for the uncertainties.
        points: Settings to measure at (their ``betas`` are not used); the recommended one is that
            of the least misfit.
        num_reads: Reads of each problem and round.
        schedule: The device's published schedule, to compare with first-order theory.
        seed: Seed of gauges.
        described: The problems in words.
        shim_corrections: Measure flux biases that cancel the offsets of chains first, by
            :func:`qattn.hardware.shim.shim_chains` with so many corrections, at the settings of the
            first point; None means none.
        progress: Called with the settings of each point before it is measured.

    Raises:
        ValueError: There are no points or fewer than two problems, or the reads do not fix β.
        BackendStopped: The device or the budget ended it; what was answered is in the journal.
    """
    if not points:
        raise ValueError("Argument `points` must not be empty.")
    request = Request.of(batch, num_reads, seed)
    models = request.batch
    if int((models.num_active > 0).sum()) < 2 or not (models.h.any() and models.matrix.any()):
        raise ValueError(
            "Argument `batch` must hold at least two problems, with fields and couplings."
        )
    shim = None
    if shim_corrections is not None:
        if len({point.chain_strength for point in points}) > 1:
            raise ValueError(
                "Argument `points` must have one chain strength with a shim, which holds for one."
            )
        pattern = request.pattern(points[0].encoding)
        shim = shim_chains(session, points[0], pattern, corrections=shim_corrections, seed=seed)
    measured: list[DevicePoint] = []
    for number, settings in enumerate(points):
        progress(settings)
        theory = None
        if schedule is not None:
            theory = theory_betas(schedule, settings.annealing_time, settings.field_encoding)
        measured.append(_measure(session, batch, settings, theory, num_reads, seed + number, shim))
    return DeviceCalibration(
        solver=session.device.name,
        graph_id=session.device.graph.graph_id,
        emulated=session.device.emulated,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        points=tuple(measured),
        recommended=min(range(len(measured)), key=lambda i: measured[i].misfit),
        problems=described,
        shim=shim,
    )


def _measure(
    session: Session,
    batch: IsingBatch,
    settings: QPUSettings,
    theory: tuple[float, float] | None,
    num_reads: int,
    seed: int,
    shim: FluxShim | None,
) -> DevicePoint:
    """The betas at these settings: fit, program anew with the fitted betas, until they agree."""
    betas = _first_betas(session, batch, settings)
    for attempt in range(MAX_ROUNDS):
        programmed = betas
        session.use_settings(replace(settings, betas=programmed), shim=shim)
        # Another seed in each round, so that its reads are not those of the round before.
        request = Request.of(batch, num_reads, seed + 1000 * attempt)
        samples = session.reads(request)
        fit = _in_units_of_device(fitted_betas(request.batch, samples), programmed)
        betas = fit.beta_h, fit.beta_J
        changes = (abs(new / old - 1) for new, old in zip(betas, programmed, strict=True))
        if max(changes) < BETA_TOLERANCE:
            break
        if not min(betas) > 0:
            raise ValueError(
                f"{session.device.name} does not sample at {settings.annealing_time:g} ns: its "
                f"fitted betas are {betas[0]:.3g} and {betas[1]:.3g}. Choose another annealing "
                f"time."
            )
    (a, b), (_, d) = fit.covariance.tolist()
    factors = betas[0] / programmed[0], betas[1] / programmed[1]
    distance, error = misfit_with_error(request.batch, samples, factors)
    return DevicePoint(
        annealing_time=settings.annealing_time,
        field_encoding=settings.field_encoding,
        chain_strength=settings.chain_strength,
        beta_h=fit.beta_h,
        beta_J=fit.beta_J,
        covariance=((a, b), (b, d)),
        p_value=fit.p_value_of_equality(),
        misfit=distance,
        misfit_error=None if np.isnan(error) else error,
        chain_break_rate=samples.info["chain_break_rate"],
        num_problems=fit.num_clusters,
        theory=theory,
    )


def _first_betas(session: Session, batch: IsingBatch, settings: QPUSettings) -> tuple[float, float]:
    """Equal betas at which the strongest bias fills half of the device's range."""
    limit_h, limit_J = session.limits(batch, settings)
    h, J = batch.scaled()
    largest = max(float(h.abs().max()) / limit_h, float(J.abs().max()) / limit_J)
    # βh/β_h is programmed: the larger β_h and β_J, the smaller the bias.
    beta = max(largest, torch.finfo(torch.float32).tiny) / INITIAL_RANGE_FRACTION
    return beta, beta


def _in_units_of_device(fit: BetaFit, programmed: tuple[float, float]) -> BetaFit:
    """The device's betas, from factors fitted to reads of biases divided by `programmed` betas."""
    scale = torch.tensor(programmed, dtype=fit.covariance.dtype)
    return BetaFit(
        fit.beta_h * programmed[0],
        fit.beta_J * programmed[1],
        fit.covariance * torch.outer(scale, scale),
        fit.num_clusters,
    )


def misfit(batch: IsingBatch, samples: SpinSamples, factors: tuple[float, float]) -> float:
    r"""Distance of reads from a Boltzmann distribution: 1 for independent reads of that one.

    .. math:: \sqrt{\Big\langle \frac{(\hat m - m)^2}{(1 - m^2)/N} \Big\rangle}

    over all ⟨s_j⟩ and ⟨s_j s_k⟩, with m exact for the fields and couplings of `batch` times
    `factors`, and N reads.
    """
    return misfit_with_error(batch, samples, factors)[0]


def misfit_with_error(
    batch: IsingBatch, samples: SpinSamples, factors: tuple[float, float]
) -> tuple[float, float]:
    """The :func:`misfit`, and its standard error with problems as clusters; nan for one problem."""
    batch = batch.dense()
    fitted = IsingBatch(factors[0] * batch.h, factors[1] * batch.matrix, batch.lengths)
    # Only moments of present spins, and each pair of them once.
    active = batch.active.expand(batch.h.shape)
    pairs = (active[..., None] & active[..., None, :]).triu(1)
    # Sum of squares and number of moments of each problem.
    squares, counts = torch.zeros(2, *batch.h.shape[:2], dtype=torch.float64)
    for expected, measured, used in (
        (exact.mean_spins(fitted), samples.mean_spins(torch.float64), active),
        (exact.pair_correlations(fitted), samples.pair_correlations(torch.float64), pairs),
    ):
        variance = ((1 - expected**2) / samples.num_reads).clamp_min(1e-12)
        ratios = torch.where(used, (measured - expected) ** 2 / variance, 0.0)
        squares += ratios.flatten(2).sum(2)
        counts += used.flatten(2).sum(2)
    value = float((squares.sum() / counts.sum()).sqrt())
    # The error of a ratio of sums over problems, and of its root.
    P = int((counts > 0).sum())
    if P < 2 or value == 0:
        return value, float("nan")
    scatter = float(((squares - value**2 * counts) ** 2).sum()) * P / (P - 1)
    return value, float(np.sqrt(scatter)) / float(counts.sum()) / (2 * value)
