"""A device in use: calls are planned, submitted, collected, and followed by the tracker."""

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qattn.hardware.calibration_file import DeviceCalibration
from qattn.hardware.calls.collect import Embeddings, collected_reads
from qattn.hardware.calls.journal import Journal
from qattn.hardware.calls.paid_calls import PaidCalls
from qattn.hardware.calls.plan import Call, Request
from qattn.hardware.calls.records import CallRecord, JobRecord
from qattn.hardware.calls.runner import (
    EmbeddedJob,
    JobRefused,
    JobRunner,
    PlanAnew,
    RetryPolicy,
    SolverOffline,
)
from qattn.hardware.calls.submission import Submission
from qattn.hardware.calls.tracking import BetaTracker, fitted_betas
from qattn.hardware.embedding.limits import DeviceRanges
from qattn.hardware.embedding.packing import Packing
from qattn.hardware.flux_shim import FluxShim
from qattn.hardware.options import AnnealSource, DWaveOptions
from qattn.hardware.service.budget import QPUBudget
from qattn.hardware.service.credentials import Credentials
from qattn.hardware.service.device import Device, connect
from qattn.hardware.settings import QPUSettings
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples

log = logging.getLogger("qattn.hardware")

LOGGED_DRIFT = 0.02
"""Relative change of a beta since it was last logged, at which it is logged again."""


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
        policy = options.retry_policy or RetryPolicy()
        self.runner = JobRunner(device, journal, budget, options.max_in_flight, policy)
        self.paid_calls = PaidCalls(journal)
        self._embeddings = Embeddings(journal)
        self._break_rate: float | None = None
        self._not_shimmed = ""
        self._use(device, settings)

    def reads(self, request: Request) -> SpinSamples:
        """The reads of a call: from the journal, from jobs in flight, or from new jobs."""
        if self.journal.acquire():  # another run may have ended since this one was opened
            self.budget.spent += self.journal.calls.resolved_access_time
            self.runner.submissions.adopt()
        submission = self._submission(request)
        programmed, clipped = submission.programmed(self.tracker.betas)
        record = self.recorded(request)
        if record is not None:
            self.paid_calls.replayed(record.name)
        else:
            self.paid_calls.before_new_call()
            details = self._provenance() | {"clipped": clipped}
            record = self.journal.add_call(
                request.digest, self._call_settings(), details, request.arrays
            )
        call = Call(self.journal, record, request)
        samples = None
        while samples is None:
            if programmed.sizes.any():
                self._run(call, submission, programmed.sizes)
            try:
                samples = collected_reads(call, self._embeddings, self.runner.fetch_again)
            except PlanAnew:
                log.info("What was lost is sampled anew.")
        self._break_rate = samples.info["chain_break_rate"]
        if self.options.follow_betas:
            self._follow(call, samples)
        return samples

    def recorded(self, request: Request) -> CallRecord | None:
        """The record of a call under the present settings, if it was made."""
        return self.journal.find(request.digest, self._call_settings())

    def use_settings(
        self,
        settings: QPUSettings,
        covariance: NDArray[np.float64] | None = None,
        calibration: DeviceCalibration | None = None,
        shim: FluxShim | None = None,
    ) -> None:
        """Sample with these settings from now on.

        Args:
            settings: The settings.
            covariance: Covariance of their betas, where it is known.
            calibration: The calibration that they are from.
            shim: Flux biases of chains; None means the calibration's.
        """
        self.settings, self.calibration = settings, calibration
        self.shim = calibration.shim if shim is None and calibration is not None else shim
        self.tracker = BetaTracker(settings.betas, covariance)
        self._logged_betas = settings.betas

    def limits(self, batch: IsingBatch, settings: QPUSettings) -> tuple[float, float]:
        """Largest programmed field and coupling of these problems; fields as they are encoded."""
        carrier = settings.encoding.carrier
        pattern = Request.of(batch, 1, 0).pattern(settings.encoding)
        packing = self.device.packing(pattern)
        limits = self.ranges.max_logical(packing, settings.chain_strength)
        return (limits.J if carrier else limits.h), limits.J

    def state_dict(self) -> dict[str, Any]:
        """What a training's checkpoint must hold of a session."""
        return {"tracker": self.tracker.state_dict(), "calls": self.paid_calls.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what there is of :meth:`state_dict`."""
        if "tracker" in state:
            self.tracker.load_state_dict(state["tracker"])
        if "calls" in state:
            self.paid_calls.go_to(state["calls"])

    def metrics(self) -> dict[str, float]:
        """Figures for a line of metrics: QPU time, betas, chain breaks."""
        beta_h, beta_J = self.tracker.betas
        figures = {"qpu_seconds": self.budget.spent, "beta_h": beta_h, "beta_J": beta_J}
        if self._quota_rate != 1:
            figures["account_seconds"] = self.budget.spent / self._quota_rate
        if self.budget.limit is not None:
            figures["qpu_seconds_left"] = self.budget.left
        if self._break_rate is not None:
            figures["chain_break_rate"] = self._break_rate
        return figures

    def close(self) -> None:
        """Settle what may have been sent twice; close all connections and the journal."""
        try:
            self.runner.close()
        finally:
            self.journal.close()
            self.device.close()

    def _submission(self, request: Request) -> Submission:
        """The request's submission to the device and with the settings in use."""
        return Submission(request, self.device, self.ranges, self.settings, self.shim)

    def _call_settings(self) -> dict[str, Any]:
        """What the reads of a call depend on, beside its models: it names the call."""
        shim = {} if self.shim is None else {"shim": self.shim.digest}
        return self.settings.to_dict() | shim

    def _run(self, call: Call, submission: Submission, sizes: NDArray[np.int64]) -> None:
        """Bring every job of a call to its answer, on another graph or device if need be."""
        while True:
            packing = submission.packing(self.tracker.betas)
            self._embeddings.add(packing)
            self._tell_if_not_shimmed(packing)
            jobs = call.plan_jobs(
                sizes,
                packing,
                self.tracker.betas,
                solver=self.device.name,
                transforms=self.settings.spin_reversal_transforms,
                max_reads=self.device.max_reads(packing.num_qubits, self.settings.timing_params),
                carrier=self.settings.encoding.carrier,
            )

            def embed(job: JobRecord, submission: Submission = submission) -> EmbeddedJob:
                plan, embedding = call.plan_of(job), self._embeddings[job.packing]
                return submission.embedded(plan, job.num_reads, embedding)

            try:
                self.runner.run(jobs, embed)
                return
            except PlanAnew:
                log.info("The problems of jobs without an answer are planned anew.")
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
        self._use_device(device)
        self.use_settings(*settings)
        calibrated = ""
        if self.calibration is not None:
            beta_h, beta_J = self.settings.betas
            calibrated = (
                f", calibrated {self.calibration.age():.1f} h ago: β_h = {beta_h:.4g}, "
                f"β_J = {beta_J:.4g}"
            )
            if self.calibration.graph_id != device.graph.graph_id:
                log.warning(
                    "The calibration of %s was made on its working graph %s, which is now %s: the "
                    "betas may have changed with it. Calibrate anew: qattn calibrate --sampler "
                    "dwave.",
                    device.name,
                    self.calibration.graph_id,
                    device.graph.graph_id,
                )
        if self._quota_rate != 1:
            log.warning(
                "%s is debited at 1/%g of its QPU access time; --qpu-budget counts the latter.",
                device.name,
                self._quota_rate,
            )
        emulated = " (EMULATED)" if device.emulated else ""
        graph_id = device.graph.graph_id
        log.info("Sampling on %s%s, graph %s%s.", device.name, emulated, graph_id, calibrated)

    @property
    def _quota_rate(self) -> float:
        """Seconds of solver time for one second of quota; 1 for QPUs.

        D-Wave, solver properties, quota_conversion_rate: time is deducted from the quota as seconds
        over this rate.
        """
        return float(self.device.properties.get("quota_conversion_rate") or 1)

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

    def _tell_if_not_shimmed(self, packing: Packing) -> None:
        """Log, once for a packing, that the calibration's flux biases are of other chains."""
        if self.shim is None or self.shim.suits(packing, self.settings.chain_strength):
            return
        if packing.digest != self._not_shimmed:
            self._not_shimmed = packing.digest
            log.warning(
                "The calibration's flux biases are for slots of %d spins with chains of %g on "
                "another packing or working graph: they are not applied to slots of %d spins on "
                "graph %s. Calibrate anew with a shim to have them.",
                self.shim.num_spins,
                self.shim.chain_strength,
                packing.num_spins,
                packing.graph.graph_id,
            )

    def _graph_changed(self) -> bool:
        """Whether the solver has a new working graph; if so, it is taken into use."""
        fresh = self.device.refreshed()
        if fresh.graph.graph_id == self.device.graph.graph_id:
            return False
        log.warning("%s has a new working graph: jobs are planned anew.", self.device.name)
        self._use_device(fresh)
        return True

    def _use_device(self, device: Device) -> None:
        self.device = self.runner.device = device
        self.ranges = DeviceRanges.from_properties(device.properties, device.graph)

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
