r"""The journal: every submission and every answer of a run, written before it is used.

A journal is a folder:

- ``journal.jsonl``: events, a line each, in the order in which they happened;
- ``calls/``: the models and settings of each call of ``sample``;
- ``packings/``: the cliques on which problems were placed;
- ``jobs/``: where each job's problems lay, and its gauge;
- ``answers/``: raw reads.

The events of a job are "job" (planned), "submit" (about to be sent, with the label that finds it
at the service), then "accepted" (with its problem id) or "rejected" (it certainly did not run),
and at last "answer" or "ended" (failed or cancelled). Each line is on the disk before the next
step is taken: whenever the process dies, the journal says which jobs may have run, and their
labels and ids pick up the answers instead of paying for them again. No event holds a token.
"""

import hashlib
import io
import json
import os
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from qattn._atomic import write_atomically
from qattn._version import __version__
from qattn.hardware.calls.records import CallRecord, JobRecord
from qattn.hardware.service.solver_api import RawAnswer

FORMAT = 1
"""Version of the folder's layout."""

PLANNED = ("call", "part", "num_reads", "packing", "solver", "graph_id")
"""Fields of a job that are known when it is planned."""

Arrays = dict[str, NDArray[Any]]


class Journal:
    """A journal's folder, open for reading only or for writing.

    Args:
        folder: The folder; made at the first event.
        read_only: Write nothing and take no lock, as a replay does.

    Raises:
        FileNotFoundError: `read_only`, and the folder is not a journal.
        ValueError: The folder is of another format, or a line is not one of a journal.
        RuntimeError: Another process has it open for writing.
    """

    def __init__(self, folder: str | Path, *, read_only: bool = False) -> None:
        self.folder = Path(folder)
        self.events_file = self.folder / "journal.jsonl"
        self.read_only = read_only
        self.calls: dict[str, CallRecord] = {}
        self.jobs: dict[str, JobRecord] = {}
        self.id = ""
        self._writing = threading.Lock()
        self._lock: FileLock | None = None
        if self.events_file.is_file():
            if not read_only:
                self._acquire()
                _drop_torn_line(self.events_file)
            self._read()
        elif read_only:
            raise FileNotFoundError(
                f"There is no journal in {self.folder}: it has no {self.events_file.name}."
            )

    def find(self, digest: str, settings: Mapping[str, Any]) -> CallRecord | None:
        """The recorded call of these models, reads and seed under these settings, if any."""
        return self.calls.get(call_name(digest, settings))

    def add_call(
        self, digest: str, settings: Mapping[str, Any], details: Mapping[str, Any], arrays: Arrays
    ) -> CallRecord:
        """Record a call before its jobs are planned."""
        name = call_name(digest, settings)
        self._write_arrays(f"calls/{name}", arrays)
        event: dict[str, Any] = {"event": "call", "call": name, "digest": digest}
        event |= {"settings": dict(settings), "details": dict(details)}
        return cast(CallRecord, self._add(event))

    def add_job(self, record: JobRecord, arrays: Arrays) -> JobRecord:
        """Record a planned job; returns the record that will follow it."""
        self._write_arrays(f"jobs/{record.name}", arrays)
        planned = {key: getattr(record, key) for key in PLANNED}
        return cast(JobRecord, self._add({"event": "job", "job": record.name} | planned))

    def add_packing(self, digest: str, arrays: Arrays) -> None:
        """Record a packing, unless it is recorded already."""
        if not self._arrays_file(f"packings/{digest}").is_file():
            self._write_arrays(f"packings/{digest}", arrays)

    def submitting(self, job: str, label: str, estimate: float) -> None:
        """Record that a job is about to be sent; `estimate` in seconds of QPU access time."""
        self._add({"event": "submit", "job": job, "label": label, "estimate": estimate})

    def rejected(self, job: str, message: str) -> None:
        """Record that the last submission of a job certainly did not run."""
        self._add({"event": "rejected", "job": job, "message": message})

    def accepted(self, job: str, problem_id: str) -> None:
        """Record the service's id of a job."""
        self._add({"event": "accepted", "job": job, "problem_id": problem_id})

    def ended(self, job: str, message: str, *, charged: bool) -> None:
        """Record that a job failed or was cancelled: it has no answer, and will have none.

        `charged`: count its estimate as spent.
        """
        self._add({"event": "ended", "job": job, "message": message, "charged": charged})

    def answered(self, job: str, answer: RawAnswer) -> None:
        """Record the answer of a job; its reads are stored as bits."""
        arrays: Arrays = {"qubits": answer.qubits, "reads": np.packbits(answer.spins > 0, axis=1)}
        self._write_arrays(f"answers/{job}", arrays)
        self._add({"event": "answer", "job": job, "timing": answer.timing})

    def answer(self, job: str) -> RawAnswer:
        """The answer of an answered job.

        Raises:
            FileNotFoundError: Its file is gone.
        """
        arrays = self.arrays("answers", job)
        bits = np.unpackbits(arrays["reads"], axis=1, count=len(arrays["qubits"]))
        spins = (2 * bits).astype(np.int8) - 1
        return RawAnswer(arrays["qubits"], spins, self.jobs[job].timing)

    def arrays(self, kind: str, name: str) -> Arrays:
        """Arrays that were written: kind "calls", "packings", "jobs" or "answers".

        Raises:
            FileNotFoundError: The file is gone.
        """
        path = self._arrays_file(f"{kind}/{name}")
        if not path.is_file():
            raise FileNotFoundError(f"The journal {self.folder} lacks its file {path.name}.")
        with np.load(path, allow_pickle=False) as file:
            return dict(file)

    @property
    def resolved_access_time(self) -> float:
        """QPU access time of the jobs whose end is known: not submitted, or answered, or ended."""
        resolved = [
            job for job in self.jobs.values() if job.status not in ("submitted", "accepted")
        ]
        return sum((job.access_time for job in resolved), 0.0)

    def close(self) -> None:
        """Release the journal, so that another process may write to it."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _acquire(self) -> None:
        lock = FileLock(self.folder / "journal.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RuntimeError(
                f"Another process writes to the journal {self.folder}: wait until it ends, "
                f"or choose another folder."
            ) from None
        self._lock = lock

    def _arrays_file(self, name: str) -> Path:
        return self.folder / f"{name}.npz"

    def _write_arrays(self, name: str, arrays: Arrays) -> None:
        path = self._arrays_file(name)
        self._prepare()
        path.parent.mkdir(exist_ok=True)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        write_atomically(path, buffer.getvalue())

    def _prepare(self) -> None:
        if self.read_only:
            raise RuntimeError(f"The journal {self.folder} is open for reading only.")
        if self._lock is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._acquire()
        if not self.events_file.is_file():
            self.id = os.urandom(4).hex()
            start = {"event": "journal", "format": FORMAT, "id": self.id, "qattn": __version__}
            self._append(start)

    def _add(self, event: dict[str, Any]) -> Any:
        """Write an event to the disk, then apply it to the records in memory."""
        with self._writing:
            self._prepare()
            self._append(event)
            return self._apply(event)

    def _append(self, event: dict[str, Any]) -> None:
        event["time"] = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self.events_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _read(self) -> None:
        lines = self.events_file.read_text(encoding="utf-8").splitlines(keepends=True)
        for number, line in enumerate(lines, 1):
            if not line.endswith("\n"):
                break  # cut off while it was written: nothing was done on it
            try:
                self._apply(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"Line {number} of {self.events_file} is not one of a journal: {error}"
                ) from None

    def _apply(self, event: dict[str, Any]) -> Any:
        kind = event["event"]
        if kind == "journal":
            if event["format"] != FORMAT:
                raise ValueError(f"format {event['format']}, and this version reads {FORMAT}")
            self.id = event["id"]
            return None
        if kind == "call":
            call = CallRecord(event["call"], event["digest"], event["settings"], event["details"])
            self.calls[call.name] = call
            return call
        if kind == "job":
            job = JobRecord(event["job"], **{key: event[key] for key in PLANNED})
            self.jobs[job.name] = job
            self.calls[job.call].jobs.append(job)
            return job
        job = self.jobs[event["job"]]
        if kind == "submit":
            job.status, job.estimate, job.problem_id = "submitted", event["estimate"], None
            job.label = event["label"]
            job.submitted = datetime.fromisoformat(event["time"]).timestamp()
        elif kind == "rejected":
            job.status, job.message = "planned", event["message"]
        elif kind == "accepted":
            job.status, job.problem_id = "accepted", event["problem_id"]
        elif kind == "ended":
            job.status, job.message = "ended", event["message"]
            job.lost += job.estimate if event["charged"] else 0.0
        elif kind == "answer":
            job.status, job.timing = "answered", event["timing"]
        else:
            raise ValueError(f"unknown event {kind!r}")
        return job


def request_digest(
    h: NDArray[Any], J: NDArray[Any], lengths: NDArray[Any], num_reads: int, seed: int
) -> str:
    """SHA-256 of a request: βh, βJ, the lengths, the number of reads and the seed.

    Equal requests have equal reads, by the meaning of a seed: that is what replay rests on.
    """
    digest = hashlib.sha256(f"{num_reads} {seed}".encode())
    # Values and shapes in one byte order, so that every machine computes the same digest.
    for x in (h.astype("<f8"), J.astype("<f8"), lengths.astype("<i8")):
        digest.update(str(x.shape).encode() + np.ascontiguousarray(x).tobytes())
    return digest.hexdigest()


def call_name(digest: str, settings: Mapping[str, Any]) -> str:
    """Name of a call: a digest of its request and of the settings it is sampled with."""
    text = digest + json.dumps(dict(settings), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _drop_torn_line(path: Path) -> None:
    """Cut off what a process that died in mid-write left after the last whole line."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
            os.fsync(file.fileno())
