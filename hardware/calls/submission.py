"""What a call submits to a device: problems within its limits, embedded, and parameters."""

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qattn.backends.base import BackendStopped
from qattn.field_encoding import ProgrammedBatch
from qattn.hardware.calls.plan import JobPlan, Request
from qattn.hardware.calls.runner import EmbeddedJob
from qattn.hardware.embedding.embed import EmbeddedProblem, Embedding
from qattn.hardware.embedding.limits import DeviceRanges
from qattn.hardware.embedding.own_graph import own_pairs
from qattn.hardware.embedding.packing import Packing
from qattn.hardware.embedding.program import carrier_qubits, clip
from qattn.hardware.flux_shim import FluxShim
from qattn.hardware.service.device import Device
from qattn.hardware.settings import QPUSettings

FLUX_BIAS = 0.005
"""Flux bias in Φ0 that holds an ancilla up; Ocean's LinearAncillaComposite takes the same."""


class OutOfRange(BackendStopped, ValueError):  # noqa: N818 - it says what is wrong
    """Fields or couplings that the device cannot hold; nothing was submitted."""


@dataclass(eq=False)
class Submission:
    """A request on its way to a device; its problems are programmed once for each pair of betas.

    Args:
        request: The request.
        device: The solver.
        ranges: Limits of its biases.
        settings: How it is used.
        shim: Flux biases of its chains, applied where they are of the packing in use.
    """

    request: Request
    device: Device
    ranges: DeviceRanges
    settings: QPUSettings
    shim: FluxShim | None = None

    def __post_init__(self) -> None:
        self._programmed: dict[tuple[float, float], tuple[ProgrammedBatch, int]] = {}
        self._programming = threading.Lock()  # jobs are embedded in threads

    def programmed(self, betas: tuple[float, float]) -> tuple[ProgrammedBatch, int]:
        """The problems in D-Wave's signs, and the number of biases that were clipped.

        Raises:
            OutOfRange: A bias exceeds the device's limits and is not to be clipped.
        """
        with self._programming:
            if betas not in self._programmed:
                self._programmed[betas] = self._within_limits(betas)
            return self._programmed[betas]

    def packing(self, betas: tuple[float, float]) -> Packing:
        """The slots: bands, cliques, or the problems' own graph where they are large and sparse.

        Raises:
            ValueError: Not one fits.
            OutOfRange: As :meth:`programmed`.
        """
        return self._packing_of(self.programmed(betas)[0])

    def embedded(self, plan: JobPlan, num_reads: int, embedding: Embedding) -> EmbeddedJob:
        """What is sent for a job.

        Raises:
            OutOfRange: A bias, or a sum of couplings, exceeds the device's limits.
        """
        chains = embedding.packing.chains
        slots, n = chains.shape[:2]
        programmed, _ = self.programmed(plan.betas)
        h, J = programmed.h.numpy(), programmed.J.numpy()
        problem = embedding.embed(
            *plan.placement.scatter(h, J, slots, n, programmed.group),
            chain_strength=self.settings.chain_strength,
            gauge=plan.gauge,
            used=plan.placement.used(slots, n),
        )
        self._check_sums(problem)
        linear, quadratic = problem.to_dicts()
        params: dict[str, Any] = {
            "num_reads": num_reads,
            "answer_mode": "raw",
            "auto_scale": False,
            **self.settings.timing_params,
        }
        encoding = self.settings.encoding
        if encoding.fast:
            params["fast_anneal"] = True
        flux = self._flux_biases(plan, problem)
        if flux.any():
            params["flux_biases"] = flux.tolist()
        return EmbeddedJob(linear, quadratic, params)

    def _flux_biases(self, plan: JobPlan, problem: EmbeddedProblem) -> NDArray[np.float64]:
        """Flux bias of every qubit of the topology in Φ0: the shim's, and those of carriers."""
        packing = problem.embedding.packing
        flux = np.zeros(int(self.device.properties["num_qubits"]))
        if self.shim is not None and self.shim.suits(packing, self.settings.chain_strength):
            flux[np.array(self.shim.qubits)] = self.shim.flux_biases
            # Only qubits that the problem uses.
            active = np.zeros(len(flux), dtype=bool)
            active[packing.graph.qubits[problem.active_qubits]] = True
            flux[~active] = 0.0
        if self.settings.encoding.flux_bias:
            qubits, signs = carrier_qubits(plan.placement, packing.chains, plan.gauge)
            flux[qubits] += FLUX_BIAS * signs  # opposite in sign to a field that does it
        return flux

    def _packing_of(self, programmed: ProgrammedBatch) -> Packing:
        pairs = own_pairs(programmed) if self.request.width is None else None
        return self.device.packing(self.request.pattern(self.settings.encoding), pairs=pairs)

    def _within_limits(self, betas: tuple[float, float]) -> tuple[ProgrammedBatch, int]:
        programmed = self.settings.encoding.encode_batch(self.request.batch, betas)
        if not programmed.sizes.any():
            return programmed, 0
        packing = self._packing_of(programmed)
        limits = self.ranges.max_logical(packing, self.settings.chain_strength)
        if self.settings.out_of_range == "clip":
            return clip(programmed, limits.h, limits.J)
        for name, values, limit in (
            ("field", programmed.h, limits.h),
            ("coupling", programmed.J, limits.J),
        ):
            largest = float(values.abs().max())
            if largest > limit * (1 + 1e-9):
                raise OutOfRange(
                    f"{self.device.name} holds a programmed {name} of up to {limit:.3g}, but "
                    f"{largest:.3g} is needed (with field_encoding="
                    f"{self.settings.field_encoding!r} fields are couplings, except with "
                    f"'direct'): choose a longer annealing_time, whose betas are larger, weaker "
                    f'models, or out_of_range="clip".'
                )
        return programmed, 0

    def _check_sums(self, problem: EmbeddedProblem) -> None:
        """Limits on the sums of a qubit's and a group's couplings."""
        for name, times in self.ranges.excess(problem).items():
            if times > 1 + 1e-9:
                raise OutOfRange(
                    f"The couplings are {times:.3g} times what {self.device.name} holds "
                    f"({name}): choose a longer annealing_time, whose betas are larger, or a "
                    f"smaller chain_strength than {self.settings.chain_strength:g}."
                )
