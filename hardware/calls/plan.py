"""What a call requests, how it is divided into jobs, and where the problems of each job lie."""

import logging
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from qattn.couplings import Banded
from qattn.field_encoding import FieldEncoding
from qattn.hardware.calls.journal import Arrays, Journal, JournalFileLost, request_digest
from qattn.hardware.calls.records import CallRecord, JobRecord
from qattn.hardware.embedding.packing import Packing
from qattn.hardware.embedding.pattern import Pattern
from qattn.hardware.embedding.placement import Placement, place
from qattn.hardware.embedding.program import shares
from qattn.ising.batch import IsingBatch

log = logging.getLogger("qattn.hardware")

PLACED = ("problem", "slot", "offset", "size")
"""Names of a placement's arrays, in the journal too."""


@dataclass(frozen=True, eq=False)
class Request:
    """The models of a call and how many reads of them are requested.

    Args:
        batch: The models at β = 1, float64, on the CPU.
        num_reads: Reads per query.
        seed: Seed of gauges and of ties.
        width: Largest distance of coupled spins, where the couplings are a band.
    """

    batch: IsingBatch
    num_reads: int
    seed: int
    width: int | None = None

    @classmethod
    def of(cls, batch: IsingBatch, num_reads: int, seed: int) -> "Request":
        """The request for reads of any batch."""
        h, J = (x.detach().to("cpu", torch.float64) for x in batch.scaled())
        dense = IsingBatch(h, J, batch.lengths, validate=False)
        width = batch.J.width if isinstance(batch.J, Banded) else None
        return cls(dense, num_reads, seed % (1 << 63), width)

    def pattern(self, encoding: FieldEncoding) -> Pattern:
        """What the problems couple, their fields encoded so."""
        largest = int(self.batch.num_active.max(initial=0))
        return Pattern(largest + encoding.carrier, self.width, encoding.carrier)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the whole request."""
        arrays = self.arrays
        return request_digest(
            arrays["h"], arrays["J"], arrays["lengths"], self.num_reads, self.seed
        )

    @property
    def arrays(self) -> Arrays:
        """The models as arrays for the journal."""
        batch = self.batch
        return {"h": batch.h.numpy(), "J": batch.matrix.numpy(), "lengths": batch.num_active}


@dataclass(frozen=True, eq=False)
class JobPlan:
    """Where the problems of a job lie, and how they are programmed.

    Args:
        placement: Problems, slots and chains.
        gauge: Spin-reversal transform of every chain, shape (slots, n).
        betas: (β_h, β_J) by which targets are divided.
    """

    placement: Placement
    gauge: NDArray[np.int8]
    betas: tuple[float, float]

    def to_arrays(self) -> Arrays:
        """The plan as arrays for the journal."""
        placed = {name: getattr(self.placement, name) for name in PLACED}
        if self.placement.shared:
            placed["shared"] = np.array(self.placement.shared)
        return placed | {"gauge": self.gauge, "betas": np.array(self.betas)}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> "JobPlan":
        """The plan of :meth:`to_arrays`."""
        # The journals of earlier versions know no shared spins.
        shared = int(arrays["shared"]) if "shared" in arrays else 0
        problem, slot, offset, size = (arrays[name] for name in PLACED)
        placement = Placement(problem, slot, offset, size, shared)
        beta_h, beta_J = arrays["betas"].tolist()
        return cls(placement, arrays["gauge"], (beta_h, beta_J))


class Call:
    """A call in progress: its request, its record, and the plans of its jobs in memory.

    Args:
        journal: Where jobs are recorded.
        record: The call's record.
        request: What the call requests.
    """

    def __init__(self, journal: Journal, record: CallRecord, request: Request) -> None:
        self.journal, self.record, self.request = journal, record, request
        self._plans: dict[str, JobPlan] = {}

    def plan_of(self, job: JobRecord) -> JobPlan:
        """The plan of a job; read from the journal if another process made it.

        Raises:
            JournalFileLost: Its file is gone or damaged.
        """
        if job.name not in self._plans:
            arrays = self.journal.arrays("jobs", job.name)
            self._plans[job.name] = JobPlan.from_arrays(arrays)
        return self._plans[job.name]

    def _has_plan(self, job: JobRecord) -> bool:
        """Whether the plan of a job can be read; if not, its reads are of no use."""
        try:
            self.plan_of(job)
        except JournalFileLost as error:
            if job.status not in ("planned", "ended"):
                log.warning("%s Job %s counts as run, and is planned anew.", error, job.name)
                self.journal.ended(job.name, "its plan is lost", charged=True)
            return False
        return True

    def plan_jobs(
        self,
        sizes: NDArray[np.int64],
        packing: Packing,
        betas: tuple[float, float],
        *,
        solver: str,
        transforms: int,
        max_reads: int,
        carrier: int,
    ) -> list[JobRecord]:
        """Write to the journal what jobs are still needed; returns all jobs worth pursuing.

        A job is pursued if it has run or may have run, or if it was planned for this working
        graph, and if its own file can be read: the others are passed over, and their problems
        planned anew.

        Args:
            sizes: Programmed spins of each problem; 0 where there is nothing to sample.
            packing: The slots.
            betas: The device's inverse temperatures (β_h, β_J).
            solver: The device's name.
            transforms: Parts into which the reads are divided at least.
            max_reads: Largest number of reads of one job.
            carrier: Spins of each problem, 0 or 1, that carry its fields.
        """
        graph_id = packing.graph.graph_id
        pursued = [
            job
            for job in self.record.jobs
            if (
                job.status in ("answered", "accepted", "submitted")
                or (job.solver, job.graph_id) == (solver, graph_id)
            )
            and self._has_plan(job)
        ]
        # In a band the first chain is the only one that reaches all others.
        shared = 0 if packing.pairs is None else carrier
        parts = shares(self.request.num_reads, transforms, max_reads)
        # What no pursued job covers, by part of the reads and problem.
        missing = np.repeat(sizes[None] > 0, len(parts), axis=0)
        for job in pursued:
            missing[job.part, self.plan_of(job).placement.problem] = False
        for part, num_reads in enumerate(parts):
            (problems,) = missing[part].nonzero()
            if not len(problems):
                continue
            self.journal.add_packing(packing.digest, packing.to_arrays())
            for placement in place(
                sizes[problems], packing.num_slots, packing.num_spins, shared=shared
            ):
                number = len(self.record.jobs)
                record = JobRecord(
                    name=f"{self.record.name}-{number}",
                    call=self.record.name,
                    part=part,
                    num_reads=num_reads,
                    packing=packing.digest,
                    solver=solver,
                    graph_id=graph_id,
                )
                # A gauge of its own for each job, the same whenever the call is planned again.
                rng = np.random.default_rng([self.request.seed, number])
                gauge = 2 * rng.integers(0, 2, packing.chains.shape[:2], dtype=np.int8) - 1
                plan = JobPlan(placement.of_problems(problems), gauge, betas)
                pursued.append(self.journal.add_job(record, plan.to_arrays()))
                self._plans[record.name] = plan
        return pursued
