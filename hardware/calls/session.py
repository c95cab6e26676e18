"""A device in use: calls are planned, submitted, collected, and followed by the tracker."""

import logging
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qattn.backends.base import SamplerStopped
from qattn.hardware.calibration_file import DeviceCalibration
from qattn.hardware.calls.journal import CallRecord, JobRecord, Journal
from qattn.hardware.calls.plan import (
    JobPlan,
    Request,
    call_reads,
    embeddings_of,
    plan_jobs,
)
from qattn.hardware.calls.runner import (
    EmbeddedJob,
    JobRefused,
    JobRunner,
    RetryPolicy,
    SolverOffline,
)
from qattn.hardware.calls.tracking import BetaTracker
from qattn.hardware.embedding.embed import EmbeddedProblem
from qattn.hardware.embedding.limits import DeviceRanges
from qattn.hardware.embedding.program import Program, carrier_qubits, clip, program
from qattn.hardware.options import AnnealSource, DWaveOptions
from qattn.hardware.service.budget import QPUBudget
from qattn.hardware.service.credentials import Credentials
from qattn.hardware.service.device import Device, connect
from qattn.hardware.settings import QPUSettings
from qattn.ising import IsingBatch
from qattn.pseudolikelihood import BetaFit, fit_betas
from qattn.samples import SpinSamples

log = logging.getLogger("qattn.hardware")

FLUX_BIAS = 0.005
"""Flux bias in Φ0 that holds an ancilla up; Ocean's LinearAncillaComposite takes the same."""

TRACKED_READS = 100
"""Reads of a problem that are used to follow the betas; their temperature is that of all."""

TRACKED_SPINS = 1 << 18
"""Bound on the spins of one fit."""

LOGGED_DRIFT = 0.02
"""Relative change of a beta since it was last logged, at which it is logged again."""


class OutOfRange(SamplerStopped, ValueError):  # noqa: N818 - it says what is wrong
    """Fields or couplings that the device cannot hold; nothing was submitted."""


def fitted_betas(batch: IsingBatch, samples: SpinSamples) -> BetaFit:
    r"""Factors (r_h, r_J) by which reads are colder than a batch at β = 1; 1 if they fit it.

    Clustered by problem, so that a device's control errors count as noise. Of very many reads a
    regular selection is used.
    """
    G, Q, n = batch.h.shape
    active = batch.active.expand(G, Q, n).flatten(0, 1)
    J = batch.J.repeat_interleave(Q, 0) * active[:, None] * active[:, :, None]
    h, spins = batch.h.flatten(0, 1), samples.spins.flatten(0, 1)
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
        journal: Where everything is written first.
        budget: Ceiling on QPU access time.
        credentials: For connecting again.
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
            patience=options.retry_policy or RetryPolicy(),
        )
        self._embedding = embeddings_of(journal)
        self._break_rate: float | None = None
        self._use(device, settings)

    def reads(self, request: Request) -> SpinSamples:
        """The reads of a call: from the journal, from jobs in flight, or from new jobs."""
        settings = self.settings.to_dict()
        programmed = self._program(request, self.tracker.betas)
        call = self.journal.find(request.digest, settings)
        if call is None:
            details = self._provenance() | {"clipped": programmed.clipped}
            call = self.journal.add_call(request.digest, settings, details, request.arrays)
        sizes = programmed.sizes
        while (sizes > 0).any():
            jobs = plan_jobs(
                self.journal,
                call,
                request,
                sizes,
                self.device.packing(int(sizes.max())),
                self.tracker.betas,
                solver=self.device.name,
                transforms=self.settings.spin_reversal_transforms,
                most_reads=self.device.most_reads(self.settings.annealing_time),
            )
            try:
                self.runner.run(jobs, lambda job: self._embedded(request, job))
                break
            except JobRefused:
                if not self._graph_changed():
                    raise
            except SolverOffline as offline:
                if not self.options.failover:
                    raise
                self._fail_over(offline)
        samples = call_reads(self.journal, call, request, self._embedding)
        self._break_rate = samples.info["chain_break_rate"]
        if self.options.track:
            self._follow(request, call, samples)
        return samples

    def change(self, settings: QPUSettings) -> None:
        """Sample with other settings from now on."""
        self._take(settings)

    def limits(self, batch: IsingBatch, settings: QPUSettings) -> tuple[float, float]:
        """Largest programmed field and coupling of these problems; fields as they are encoded."""
        size = int(batch.num_active.max()) + settings.fast
        packing = self.device.packing(size)
        limits = self.ranges.max_logical(packing, settings.chain_strength)
        return (limits.J if settings.fast else limits.h), limits.J

    def metrics(self) -> dict[str, float]:
        """Figures for a line of metrics: QPU time, betas, chain breaks."""
        beta_h, beta_J = self.tracker.betas
        found = {"qpu_seconds": self.budget.spent, "beta_h": beta_h, "beta_J": beta_J}
        if self.budget.limit is not None:
            found["qpu_seconds_left"] = self.budget.left
        if self._break_rate is not None:
            found["chain_break_rate"] = self._break_rate
        return found

    def close(self) -> None:
        """Close all connections and the journal."""
        self.journal.close()
        self.device.close()

    def _use(self, device: Device, settings: AnnealSource) -> None:
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
        found = self.device.description | {"beta_h": beta_h, "beta_J": beta_J}
        if self.calibration is not None:
            found |= {
                "calibrated": self.calibration.created,
                "calibration_age_hours": self.calibration.age(),
            }
        return found

    def _program(self, request: Request, betas: tuple[float, float]) -> Program:
        """The request in the device's units, within its limits."""
        found = program(request.batch, betas, self.settings.field_encoding)
        if not (found.sizes > 0).any():
            return found
        packing = self.device.packing(int(found.sizes.max()))
        limits = self.ranges.max_logical(packing, self.settings.chain_strength)
        if self.settings.out_of_range == "clip":
            return clip(found, limits.h, limits.J)
        for name, values, most in (("field", found.h, limits.h), ("coupling", found.J, limits.J)):
            largest = float(abs(values).max())
            if largest > most * (1 + 1e-9):
                raise OutOfRange(
                    f"{self.device.name} holds a programmed {name} of up to {most:.3g}, but "
                    f"{largest:.3g} is needed (with field_encoding="
                    f"{self.settings.field_encoding!r} fields are couplings, except with "
                    f"'direct'): choose a longer annealing_time, whose betas are larger, weaker "
                    f'models, or out_of_range="clip".'
                )
        return found

    def _embedded(self, request: Request, job: JobRecord) -> EmbeddedJob:
        plan = JobPlan.from_arrays(self.journal.arrays("jobs", job.name))
        embedding = self._embedding(job.packing)
        chains = embedding.packing.chains
        programmed = self._program(request, plan.betas)
        slots = chains.shape[:2]
        problem = embedding.embed(
            *plan.placement.scatter(programmed.h, programmed.J, *slots),
            chain_strength=self.settings.chain_strength,
            gauge=plan.gauge,
            used=plan.placement.used(*slots),
        )
        self._check_sums(problem)
        linear, quadratic = problem.to_dicts()
        params: dict[str, Any] = {
            "num_reads": job.num_reads,
            "answer_mode": "raw",
            "auto_scale": False,
            "annealing_time": self.settings.annealing_time * 1e-3,
        }
        if self.settings.fast:
            params["fast_anneal"] = True
        if self.settings.field_encoding == "ancilla":
            flux = [0.0] * int(self.device.properties["num_qubits"])
            for qubit, sign in zip(
                *carrier_qubits(plan.placement, chains, plan.gauge), strict=True
            ):
                flux[qubit] = FLUX_BIAS * int(sign)  # opposite in sign to a field that does it
            params["flux_biases"] = flux
        return EmbeddedJob(linear, quadratic, params)

    def _check_sums(self, problem: EmbeddedProblem) -> None:
        """Limits on the sums of a qubit's and a group's couplings."""
        for name, times in self.ranges.excess(problem).items():
            if times > 1 + 1e-9:
                raise OutOfRange(
                    f"The couplings are {times:.3g} times what {self.device.name} holds "
                    f"({name}): choose a longer annealing_time, whose betas are larger, or a "
                    f"smaller chain_strength than {self.settings.chain_strength:g}."
                )

    def _follow(self, request: Request, call: CallRecord, samples: SpinSamples) -> None:
        betas = {JobPlan.from_arrays(self.journal.arrays("jobs", j.name)).betas for j in call.jobs}
        if len(betas) != 1:
            return  # none, or those of two devices
        (programmed_with,) = betas
        try:
            fit = fitted_betas(request.batch, samples)
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
        """Whether the solver was calibrated anew since; if so, its new graph is used."""
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
        log.warning("%s is offline: going on with %s.", lost.name, device.name)
        self._use(device, settings)
        lost.close()
