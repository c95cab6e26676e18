"""The reads of a call, put together from the answers of its jobs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from qattn.backends.base import BackendStopped
from qattn.field_encoding import FieldEncoding
from qattn.hardware.calls.journal import Journal, JournalFileLost
from qattn.hardware.calls.plan import Call
from qattn.hardware.calls.records import JobRecord
from qattn.hardware.embedding.embed import Embedding, UnembeddedReads
from qattn.hardware.embedding.packing import Packing
from qattn.hardware.service.solver_api import RawAnswer
from qattn.ising.samples import SpinSamples


class Embeddings:
    """The embedding of each packing of a journal by its digest, made once.

    Args:
        journal: Where packings are read that are not in memory.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._made: dict[str, Embedding] = {}

    def add(self, packing: Packing) -> None:
        """Keep the embedding of a packing that is in memory."""
        if packing.digest not in self._made:
            self._made[packing.digest] = Embedding(packing)

    def __getitem__(self, digest: str) -> Embedding:
        """The embedding of this packing.

        Raises:
            JournalFileLost: The journal lacks the packing.
        """
        if digest not in self._made:
            self.add(Packing.from_arrays(self._journal.arrays("packings", digest)))
        return self._made[digest]


def collected_reads(
    call: Call,
    embeddings: Embeddings,
    fetch_again: Callable[[JobRecord], RawAnswer] | None = None,
) -> SpinSamples:
    """The reads of a call whose jobs are answered.

    Args:
        call: The call.
        embeddings: The embeddings of its jobs' packings.
        fetch_again: Gets an answer that the journal has lost; None where there is no service.

    Returns:
        Reads, with all that the journal knows of the call in ``info``; among it "break_rates",
        the rate of broken reads of each spin's chain, shape (groups, queries, spins), and
        "chain_break_rate", the mean over all used chains.

    Raises:
        BackendStopped: An answer lacks qubits or is lost, or there is none for some reads.
    """
    record, request = call.record, call.request
    encoding = FieldEncoding.parse(record.settings["field_encoding"])
    G, Q, n = request.batch.h.shape
    width = n + encoding.carrier
    spins = np.zeros((G * Q, request.num_reads, width), np.int8)
    broken = np.zeros((G * Q, width))
    answered = [job for job in record.jobs if job.status == "answered"]
    starts = _starts(answered)
    for job in answered:
        placement = call.plan_of(job).placement
        try:
            answer = call.journal.answer(job.name)
        except JournalFileLost:
            if fetch_again is None or job.problem_id is None:
                raise
            answer = fetch_again(job)
        reads = _unembedded(call, job, embeddings[job.packing], answer)
        part = slice(starts[job.part], starts[job.part] + job.num_reads)
        # With the reads last, one index for each spin moves all its reads at once.
        gathered = placement.gather(reads.spins.transpose(0, 2, 1), width)
        spins[placement.problem, part] = gathered.transpose(0, 2, 1)
        # Each part counts as often in a problem's rate as it has reads.
        rates = placement.gather(reads.broken, width)
        broken[placement.problem] += rates * (job.num_reads / request.num_reads)
    sizes = encoding.programmed_sizes(request.batch.num_active.ravel())
    used = np.arange(width) < sizes[:, None]
    # A spin that was read is not 0.
    if (spins[np.broadcast_to(used[:, None], spins.shape)] == 0).any():
        raise BackendStopped(
            f"The answers of call {record.name} in the journal {call.journal.folder} do not cover "
            f"all its problems: was it cut off? Resume the run that wrote it."
        )
    account: dict[str, Any] = {
        "backend": "dwave",
        "num_jobs": len(record.jobs),
        "qpu_access_seconds": sum((job.access_time for job in record.jobs), 0.0),
        "break_rates": torch.from_numpy(broken[:, encoding.carrier :]).unflatten(0, (G, Q)),
        "chain_break_rate": float(broken[used].mean()) if used.any() else 0.0,
    }
    target_spins = encoding.decode_spins(torch.from_numpy(spins)).unflatten(0, (G, Q))
    return SpinSamples(target_spins, info=record.settings | record.details | account)


def _unembedded(
    call: Call, job: JobRecord, embedding: Embedding, answer: RawAnswer
) -> UnembeddedReads:
    """The answer of a job as reads of logical spins, its gauge undone."""
    graph = embedding.packing.graph
    reads = np.zeros((job.num_reads, len(graph.qubits)), np.int8)
    reads[:, graph.position_of_qubit(answer.qubits)] = answer.spins
    # Ties are broken by a generator of the job's own, so that they are the same in a replay.
    number = int(job.name.rpartition("-")[2])
    rng = np.random.default_rng([call.request.seed, number, 1])
    return embedding.unembed(reads, gauge=call.plan_of(job).gauge, rng=rng)


def _starts(jobs: list[JobRecord]) -> dict[int, int]:
    """Where the reads of each part begin."""
    reads = {job.part: job.num_reads for job in jobs}
    return {part: sum(reads[before] for before in range(part)) for part in reads}
