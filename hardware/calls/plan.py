"""A call's jobs: what was asked for, how it is divided into jobs, and its reads put together."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qattn.backends.base import SamplerStopped
from qattn.field_encoding import FieldEncoding
from qattn.hardware.calls.journal import Arrays, CallRecord, JobRecord, Journal, request_digest
from qattn.hardware.embedding.embed import Embedding
from qattn.hardware.embedding.packing import Packing
from qattn.hardware.embedding.placement import Placement, place
from qattn.hardware.embedding.program import shares
from qattn.hardware.embedding.working_graph import WorkingGraph
from qattn.ising import IsingBatch
from qattn.samples import SpinSamples


@dataclass(frozen=True, eq=False)
class Request:
    """What a call of ``sample`` asks for.

    Args:
        batch: The models at β = 1, float64, on the CPU.
        num_reads: Reads per query.
        seed: Seed of gauges and of ties.
    """

    batch: IsingBatch
    num_reads: int
    seed: int

    @classmethod
    def of(cls, batch: IsingBatch, num_reads: int, seed: int) -> "Request":
        """The request for reads of any batch."""
        h, J = (x.detach().to("cpu", torch.float64) for x in batch.scaled())
        return cls(IsingBatch(h, J, batch.lengths, validate=False), num_reads, seed % (1 << 63))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that was asked for."""
        arrays = self.arrays
        return request_digest(
            arrays["h"], arrays["J"], arrays["lengths"], self.num_reads, self.seed
        )

    @property
    def arrays(self) -> Arrays:
        """The models, for the journal."""
        batch = self.batch
        return {"h": batch.h.numpy(), "J": batch.J.numpy(), "lengths": batch.num_active}


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
        """For the journal."""
        where = self.placement
        return {
            "problem": where.problem,
            "slot": where.slot,
            "offset": where.offset,
            "size": where.size,
            "gauge": self.gauge,
            "betas": np.array(self.betas),
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> "JobPlan":
        """From the journal."""
        placement = Placement(*(arrays[name] for name in ("problem", "slot", "offset", "size")))
        beta_h, beta_J = arrays["betas"].tolist()
        return cls(placement, arrays["gauge"], (beta_h, beta_J))


def plan_jobs(
    journal: Journal,
    call: CallRecord,
    request: Request,
    sizes: NDArray[np.int64],
    packing: Packing,
    betas: tuple[float, float],
    *,
    solver: str,
    transforms: int,
    most_reads: int,
) -> list[JobRecord]:
    """Write to the journal what jobs are still needed; returns all jobs worth pursuing.

    A job is pursued if it has run or may have run, or if it was planned for this working graph:
    the others are passed over, and their problems planned anew.

    Args:
        journal: Where jobs are recorded.
        call: The call's record.
        request: What it asks for.
        sizes: Programmed spins of each problem; 0 where there is nothing to ask.
        packing: The slots.
        betas: The device's inverse temperatures.
        solver: The device's name.
        transforms: Parts into which the reads are divided at least.
        most_reads: Largest number of reads of one job.
    """
    graph_id = packing.graph.graph_id
    pursued = [
        job
        for job in call.jobs
        if job.status in ("answered", "accepted", "submitted")
        or (job.solver, job.graph_id) == (solver, graph_id)
    ]
    parts = shares(request.num_reads, transforms, most_reads)
    missing = np.repeat(sizes[None] > 0, len(parts), axis=0)
    for job in pursued:
        missing[job.part, journal.arrays("jobs", job.name)["problem"]] = False
    name = packing_digest(packing)
    for part, num_reads in enumerate(parts):
        (problems,) = missing[part].nonzero()
        if not len(problems):
            continue
        journal.add_packing(name, packing_arrays(packing))
        for placement in place(sizes[problems], packing.num_slots, packing.num_spins):
            placement = Placement(
                problems[placement.problem], placement.slot, placement.offset, placement.size
            )
            rng = np.random.default_rng([request.seed, len(call.jobs)])
            shape = packing.chains.shape[:2]
            gauge = 2 * rng.integers(0, 2, shape, dtype=np.int8) - 1
            record = JobRecord(
                name=f"{call.name}-{len(call.jobs)}",
                call=call.name,
                part=part,
                num_reads=num_reads,
                packing=name,
                solver=solver,
                graph_id=graph_id,
            )
            pursued.append(journal.add_job(record, JobPlan(placement, gauge, betas).to_arrays()))
    return pursued


def collected_reads(
    journal: Journal,
    call: CallRecord,
    request: Request,
    embedding: Callable[[str], Embedding],
    encoding: FieldEncoding,
) -> SpinSamples:
    """The reads of a call whose jobs are answered.

    Args:
        journal: Where the answers are.
        call: The call's record.
        request: What it asked for.
        embedding: The embedding of a packing, by its digest.
        encoding: How fields were programmed.

    Returns:
        Reads, with ``info`` of "break_rates": the rate of broken reads of each spin's chain, shape
        (groups, queries, spins), and of "chain_break_rate": the mean over all used chains.

    Raises:
        SamplerStopped: An answer lacks qubits, or there is none for some reads.
    """
    G, Q, n = request.batch.h.shape
    width = n + encoding.carrier
    spins = np.zeros((G * Q, request.num_reads, width), np.int8)
    broken = np.zeros((G * Q, width))
    sizes = encoding.programmed_sizes(request.batch.num_active.ravel())
    answered = [job for job in call.jobs if job.status == "answered"]
    starts = _starts(answered)
    for job in answered:
        plan = JobPlan.from_arrays(journal.arrays("jobs", job.name))
        here, where = embedding(job.packing), plan.placement
        answer = journal.answer(job.name)
        graph = here.packing.graph
        reads = np.zeros((job.num_reads, len(graph.qubits)), np.int8)
        reads[:, graph.position_of_qubit(answer.qubits)] = answer.spins
        number = int(job.name.rpartition("-")[2])
        rng = np.random.default_rng([request.seed, number, 1])
        found = here.unembed(reads, gauge=plan.gauge, rng=rng)
        rows = slice(starts[job.part], starts[job.part] + job.num_reads)
        spins[where.problem, rows] = where.gather(found.spins, width)
        rates = where.gather_chains(found.broken, width)
        broken[where.problem] += rates * (job.num_reads / request.num_reads)
    used = np.arange(width) < sizes[:, None]
    if (spins[np.broadcast_to(used[:, None], spins.shape)] == 0).any():
        raise SamplerStopped(
            f"The answers of call {call.name} in the journal {journal.folder} do not cover all "
            f"its problems: was it cut off? Resume the run that wrote it."
        )
    info = {
        "break_rates": torch.from_numpy(broken[:, encoding.carrier :]).unflatten(0, (G, Q)),
        "chain_break_rate": float(broken[used].mean()) if used.any() else 0.0,
    }
    return SpinSamples(
        encoding.decode_spins(torch.from_numpy(spins)).unflatten(0, (G, Q)), info=info
    )


def call_reads(
    journal: Journal,
    call: CallRecord,
    request: Request,
    embedding: Callable[[str], Embedding],
) -> SpinSamples:
    """The reads of an answered call, with all that the journal knows of it in ``info``."""
    encoding = FieldEncoding.parse(call.settings["field_encoding"])
    samples = collected_reads(journal, call, request, embedding, encoding)
    account: dict[str, Any] = {
        "backend": "dwave",
        "num_jobs": len(call.jobs),
        "qpu_access_seconds": sum((job.access_time for job in call.jobs), 0.0),
    }
    return SpinSamples(
        samples.spins, info=call.settings | call.details | account | dict(samples.info)
    )


def _starts(jobs: list[JobRecord]) -> dict[int, int]:
    """Where the reads of each part begin."""
    reads = {job.part: job.num_reads for job in jobs}
    return {part: sum(reads[before] for before in range(part)) for part in reads}


def embeddings_of(journal: Journal) -> Callable[[str], Embedding]:
    """The embedding of each packing of a journal by its digest, made once."""

    @cache
    def embedding(packing: str) -> Embedding:
        return Embedding(packing_from_arrays(journal.arrays("packings", packing)))

    return embedding


def packing_digest(packing: Packing) -> str:
    """Name of a packing in a journal."""
    found = hashlib.sha256(packing.graph.digest.encode() + packing.chains.tobytes())
    return found.hexdigest()[:20]


def packing_arrays(packing: Packing) -> Arrays:
    """A packing with its working graph, for the journal."""
    graph = packing.graph
    return {
        "chains": packing.chains,
        "qubits": graph.qubits,
        "couplers": graph.couplers,
        "topology": np.array(graph.topology),
        "shape": np.array(graph.shape),
        "graph_id": np.array(graph.graph_id),
    }


def packing_from_arrays(arrays: Arrays) -> Packing:
    """The packing of :func:`packing_arrays`."""
    graph = WorkingGraph(
        str(arrays["topology"]),
        tuple(arrays["shape"].tolist()),
        arrays["qubits"],
        arrays["couplers"],
        str(arrays["graph_id"]),
    )
    return Packing(graph, arrays["chains"])
