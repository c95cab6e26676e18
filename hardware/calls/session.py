"""A device in use: calls are planned, submitted, collected, and followed by the tracker."""

import logging
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qattn.hardware.calibration_file import DeviceCalibration
from qattn.hardware.calls.collect import Embeddings, collected_reads
from qattn.hardware.calls.journal import Journal
from qattn.hardware.calls.plan import Call
from qattn.hardware.calls.records import JobRecord
from qattn.hardware.calls.request import Request
from qattn.hardware.calls.runner import (
    EmbeddedJob,
    JobRefused,
    JobRunner,
    RetryPolicy,
    SolverOffline,
)
from qattn.hardware.calls.submission import Submission
from qattn.hardware.calls.tracking import BetaTracker
from qattn.hardware.embedding.limits import DeviceRanges
from qattn.hardware.options import AnnealSource, DWaveOptions
from qattn.hardware.service.budget import QPUBudget
from qattn.hardware.service.credentials import Credentials
from qattn.hardware.service.device import Device, connect
from qattn.hardware.settings import QPUSettings
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples
from qattn.pseudolikelihood import BetaFit, fit_betas

log = logging.getLogger("qattn.hardware")

TRACKED_READS = 100
"""Reads of a problem that are used to follow the betas; their temperature is that of all."""

TRACKED_SPINS = 1 << 18
"""Bound on the spins of one fit."""

LOGGED_DRIFT = 0.02
"""Relative change of a beta since it was last logged, at which it is logged again."""


def fitted_betas(batch: IsingBatch, samples: SpinSamples) -> BetaFit:
    r"""Factors (r_h, r_J) by which reads are colder than a batch at β = 1; 1 if they fit it.

    Clustered by problem, so that a device's control errors count as noise. Of very many reads a
    regular selection is used.
    """
    G, Q, n = batch.h.shape
    # A problem a row; J of absent spins is 0.
    active = batch.active.expand(G, Q, n).flatten(0, 1)
    J = batch.J.repeat_interleave(Q, 0) * active[:, None] * active[:, :, None]
    h, spins = batch.h.flatten(0, 1), samples.spins.flatten(0, 1)
    # Every step-th problem and its first reads, so that the fit stays within its bound.
    reads = min(spins.shape[1], TRACKED_READS)
    step = max(1, len(h) * reads * n // TRACKED_SPINS)
    chosen = slice(None, None, step)
    spins = spins[chosen, :reads].double()
    weights = torch.ones(spins.shape[:2], dtype=torch.float64)
    clusters = "problems" if len(spins) >= 20 else "reads"
    return fit_betas(h[chosen], J[chosen], spins, weights, active[chosen], clusters=clusters)


class Session:
    """A connected device with its settings, journal, budget and tracker.

    Args:
        device: The solver.
        options: What the user chose, also for when another device takes over.
        settings: The settings for this device, as the options' ``settings_for`` gives them.
        journal: The journal, to which everything is written first.
        budget: Ceiling on QPU access time.
        credentials: The credentials, for connecting to another device.
    """

    def __init__(
        self,
        device: Device,
        options: DWaveOptions,
        settings: AnnealSource,
        journal: Journal,
        budget: QPUBudget,
        credentials: Credentials,
    ) -> None:
        self.options, self.journal, self.budget = options, journal, budget
        self._credentials = credentials
        self.runner = JobRunner(
            device,
            journal,
            budget,
            max_in_flight=options.max_in_flight,
            retry_policy=options.retry_policy or RetryPolicy(),
        )
        self._embeddings = Embeddings(journal)
        self._break_rate: float | None = None
        self._use(device, settings)

    def reads(self, request: Request) -> SpinSamples:
        """The reads of a call: from the journal, from jobs in flight, or from new jobs."""
        submission = self._submission(request)
        programmed, clipped = submission.programmed(self.tracker.betas)
        settings = self.settings.to_dict()
        record = self.journal.find(request.digest, settings)
        if record is None:
            details = self._provenance() | {"clipped": clipped}
            record = self.journal.add_call(request.digest, settings, details, request.arrays)
        call = Call(self.journal, record, request)
        if programmed.sizes.any():
            self._run(call, submission, programmed.sizes)
        samples = collected_reads(call, self._embeddings)
        self._break_rate = samples.info["chain_break_rate"]
        if self.options.track:
            self._follow(call, samples)
        return samples

    def change(self, settings: QPUSettings) -> None:
        """Use other settings from now on."""
        self._take(settings)

    def limits(self, batch: IsingBatch, settings: QPUSettings) -> tuple[float, float]:
        """Largest programmed field and coupling of these problems; fields as they are encoded."""
        carrier = settings.encoding.carrier
        packing = self.device.packing(int(batch.num_active.max()) + carrier)
        limits = self.ranges.max_logical(packing, settings.chain_strength)
        return (limits.J if carrier else limits.h), limits.J

    def metrics(self) -> dict[str, float]:
        """Figures for a line of metrics: QPU time, betas, chain breaks."""
        beta_h, beta_J = self.tracker.betas
        figures = {"qpu_seconds": self.budget.spent, "beta_h": beta_h, "beta_J": beta_J}
        if self.budget.limit is not None:
            figures["qpu_seconds_left"] = self.budget.left
        if self._break_rate is not None:
            figures["chain_break_rate"] = self._break_rate
        return figures

    def close(self) -> None:
        """Close all connections and the journal."""
        self.journal.close()
        self.device.close()

    def _submission(self, request: Request) -> Submission:
        """The request's submission to the device and with the settings in use."""
        return Submission(request, self.device, self.ranges, self.settings)

    def _run(self, call: Call, submission: Submission, sizes: NDArray[np.int64]) -> None:
        """Bring every job of a call to its answer, on another graph or device if need be."""
        while True:
            packing = self.device.packing(int(sizes.max()))
            self._embeddings.add(packing)
            jobs = call.plan_jobs(
                sizes,
                packing,
                self.tracker.betas,
                solver=self.device.name,
                transforms=self.settings.spin_reversal_transforms,
                max_reads=self.device.most_reads(self.settings.annealing_time),
            )

            def embed(job: JobRecord, submission: Submission = submission) -> EmbeddedJob:
                plan, embedding = call.plan_of(job), self._embeddings[job.packing]
                return submission.embedded(plan, job.num_reads, embedding)

            try:
                self.runner.run(jobs, embed)
                return
            except JobRefused:
                if not self._graph_changed():
                    raise
            except SolverOffline as offline:
                if not self.options.failover:
                    raise
                self._fail_over(offline)
            submission = self._submission(call.request)

    def _use(self, device: Device, settings: AnnealSource) -> None:
        """Take a device into use, with its settings."""
        self.device = self.runner.device = device
        self.ranges = DeviceRanges.from_properties(device.properties, device.graph)
        self._take(*settings)
        calibrated = ""
        if self.calibration is not None:
            beta_h, beta_J = self.settings.betas
            calibrated = (
                f", calibrated {self.calibration.age():.1f} h ago: β_h = {beta_h:.4g}, "
                f"β_J = {beta_J:.4g}"
            )
        emulated = " (EMULATED)" if device.emulated else ""
        graph_id = device.graph.graph_id
        log.info("Sampling on %s%s, graph %s%s.", device.name, emulated, graph_id, calibrated)

    def _take(
        self,
        settings: QPUSettings,
        covariance: NDArray[np.float64] | None = None,
        calibration: DeviceCalibration | None = None,
    ) -> None:
        self.settings, self.calibration = settings, calibration
        self.tracker = BetaTracker(settings.betas, covariance)
        self._logged_betas = self.settings.betas

    def _provenance(self) -> dict[str, Any]:
        beta_h, beta_J = self.tracker.betas
        provenance = self.device.description | {"beta_h": beta_h, "beta_J": beta_J}
        if self.calibration is not None:
            provenance |= {
                "calibrated": self.calibration.created,
                "calibration_age_hours": self.calibration.age(),
            }
        return provenance

    def _follow(self, call: Call, samples: SpinSamples) -> None:
        """Update the tracked betas from a call's reads, and log them when they have drifted."""
        betas = {call.plan_of(job).betas for job in call.record.jobs}
        if len(betas) != 1:
            return  # none, or those of two devices
        (programmed_with,) = betas
        try:
            fit = fitted_betas(call.request.batch, samples)
        except ValueError:  # the problems do not fix any beta
            return
        self.tracker.update(fit, programmed_with)
        for new, old in zip(self.tracker.betas, self._logged_betas, strict=True):
            if abs(new / old - 1) > LOGGED_DRIFT:
                log.info(
                    "The betas of %s are now %.4g and %.4g (were %.4g and %.4g).",
                    self.device.name,
                    *self.tracker.betas,
                    *self._logged_betas,
                )
                self._logged_betas = self.tracker.betas
                break

    def _graph_changed(self) -> bool:
        """Whether the solver has a new working graph; if so, it is taken into use."""
        fresh = self.device.refreshed()
        if fresh.graph.graph_id == self.device.graph.graph_id:
            return False
        log.warning("%s has a new working graph: jobs are planned anew.", self.device.name)
        self.device = self.runner.device = fresh
        self.ranges = DeviceRanges.from_properties(fresh.properties, fresh.graph)
        return True

    def _fail_over(self, offline: SolverOffline) -> None:
        """Take another solver of the same features, and its own calibration."""
        lost = self.device
        device = connect(self._credentials, avoid={lost.name})
        try:
            settings = self.options.settings_for(device.name, device.properties)
            if settings[0].field_encoding != self.settings.field_encoding:
                raise ValueError("its calibration recommends another field_encoding")
        except (ValueError, OSError) as error:
            device.close()
            raise SolverOffline(f"{offline} {device.name} cannot take over: {error}") from None
        log.warning("%s is offline: continuing on %s.", lost.name, device.name)
        self._use(device, settings)
        lost.close()
