r"""Calibration of a QPU: β_h and β_J against annealing time, chain strength and field encoding.

A device that samples :math:`P(s) \propto \exp(-\beta_h \sum h s - \beta_J \sum J s s)` in the
biases it is programmed with is given a batch of problems, and the two betas are fitted to all
reads at once by pseudo-likelihood (:mod:`qattn.pseudolikelihood`), with problems as clusters, so
that a device's control errors are part of the stated uncertainty. The problems are then programmed
anew with what was found, until it does not change: the betas are measured in the regime in which
they will be used.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from qattn import exact
from qattn.hardware.calibration_file import DeviceCalibration, DevicePoint
from qattn.hardware.calls.request import Request
from qattn.hardware.calls.session import Session, fitted_betas
from qattn.hardware.settings import QPUSettings, theory_betas
from qattn.ising import IsingBatch
from qattn.pseudolikelihood import BetaFit
from qattn.samples import SpinSamples

ROUNDS = 6
"""Most times that a point is programmed anew."""

SETTLED = 0.1
"""Relative change of the betas below which they were measured where they are used."""

FIRST_FILLING = 0.5
"""Largest first programmed bias, as part of what the device holds."""


@dataclass(frozen=True)
class Point:
    """A point to calibrate.

    Attributes:
        annealing_time: ns.
        field_encoding: "ghost", "ancilla" or "direct".
        chain_strength: In the device's units.
    """

    annealing_time: float
    field_encoding: str
    chain_strength: float


def calibrate_device(
    session: Session,
    batch: IsingBatch,
    points: Sequence[Point],
    *,
    num_reads: int = 100,
    schedule: str | Path | None = None,
    seed: int = 0,
    described: str = "",
    progress: Callable[[Point], None] = lambda point: None,
) -> DeviceCalibration:
    """Measure a device's betas at each point on a batch of problems.

    Args:
        session: The device; it keeps the settings of the last point.
        batch: Problems of at most about 16 spins; 40 or more, for the uncertainties.
        points: The points; the recommended one is that of the least misfit.
        num_reads: Reads of each problem and round.
        schedule: The device's published schedule, to compare with first-order theory.
        seed: Seed of gauges.
        described: The problems in words.
        progress: Called before each point.

    Raises:
        ValueError: There are no points or fewer than two problems, or the reads do not fix β.
        SamplerStopped: The device or the budget ended it; what was answered is in the journal.
    """
    if not points:
        raise ValueError("Argument `points` must not be empty.")
    if int((batch.num_active > 0).sum()) < 2 or not (batch.h.any() and batch.J.any()):
        raise ValueError(
            "Argument `batch` must hold two problems at least, with fields and couplings."
        )
    found: list[DevicePoint] = []
    for number, point in enumerate(points):
        progress(point)
        theory = None
        if schedule is not None:
            theory = theory_betas(schedule, point.annealing_time, point.field_encoding)
        found.append(_measured(session, batch, point, theory, num_reads, seed + number))
    return DeviceCalibration(
        solver=session.device.name,
        graph_id=session.device.graph.graph_id,
        emulated=session.device.emulated,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        points=tuple(found),
        recommended=min(range(len(found)), key=lambda i: found[i].misfit),
        problems=described,
    )


def _measured(
    session: Session,
    batch: IsingBatch,
    point: Point,
    theory: tuple[float, float] | None,
    num_reads: int,
    seed: int,
) -> DevicePoint:
    settings = QPUSettings(point.annealing_time, point.field_encoding, point.chain_strength)
    betas = _first_betas(session, batch, settings)
    for attempt in range(ROUNDS):
        used = betas
        session.change(replace(settings, betas=used))
        request = Request.of(batch, num_reads, seed + 1000 * attempt)
        samples = session.reads(request)
        fit = _of_device(fitted_betas(request.batch, samples), used)
        betas = fit.beta_h, fit.beta_J
        if max(abs(new / old - 1) for new, old in zip(betas, used, strict=True)) < SETTLED:
            break
        if not min(betas) > 0:
            raise ValueError(
                f"{session.device.name} does not sample at {point.annealing_time:g} ns: its "
                f"fitted betas are {betas[0]:.3g} and {betas[1]:.3g}. Choose another annealing "
                f"time."
            )
    (a, b), (_, d) = fit.covariance.tolist()
    return DevicePoint(
        annealing_time=point.annealing_time,
        field_encoding=point.field_encoding,
        chain_strength=point.chain_strength,
        beta_h=fit.beta_h,
        beta_J=fit.beta_J,
        covariance=((a, b), (b, d)),
        p_value=fit.p_value_of_equality(),
        misfit=misfit(request.batch, samples, (fit.beta_h / used[0], fit.beta_J / used[1])),
        chain_break_rate=samples.info["chain_break_rate"],
        num_problems=fit.num_clusters,
        theory=theory,
    )


def _first_betas(session: Session, batch: IsingBatch, settings: QPUSettings) -> tuple[float, float]:
    """Betas at which the strongest bias fills half of the device's range."""
    most_h, most_J = session.limits(batch, settings)
    h, J = batch.scaled()
    largest = max(float(h.abs().max()) / most_h, float(J.abs().max()) / most_J)
    beta = max(largest, torch.finfo(torch.float32).tiny) / FIRST_FILLING
    return beta, beta


def _of_device(fit: BetaFit, betas: tuple[float, float]) -> BetaFit:
    """The device's betas from the factors that were fitted to what was programmed with `betas`."""
    scale = torch.tensor(betas, dtype=fit.covariance.dtype)
    return BetaFit(
        fit.beta_h * betas[0],
        fit.beta_J * betas[1],
        fit.covariance * torch.outer(scale, scale),
        fit.num_clusters,
    )


def misfit(batch: IsingBatch, samples: SpinSamples, factors: tuple[float, float]) -> float:
    r"""How far reads are from a Boltzmann distribution: 1 for independent reads of one.

    .. math:: \sqrt{\Big\langle \frac{(\hat m - m)^2}{(1 - m^2)/N} \Big\rangle}

    over all ⟨s_j⟩ and ⟨s_j s_k⟩, with m exact for the fields and couplings of `batch` times
    `factors`, and N reads.
    """
    fitted = IsingBatch(factors[0] * batch.h, factors[1] * batch.J, batch.lengths)
    active = batch.active.expand(batch.h.shape)
    pairs = (active[..., None] & active[..., None, :]).triu(1)
    expected = torch.cat([exact.mean_spins(fitted)[active], exact.pair_correlations(fitted)[pairs]])
    found = torch.cat(
        [
            samples.mean_spins(torch.float64)[active],
            samples.pair_correlations(torch.float64)[pairs],
        ]
    )
    variance = ((1 - expected**2) / samples.num_reads).clamp_min(1e-12)
    return float(np.sqrt(float(((found - expected) ** 2 / variance).mean())))
