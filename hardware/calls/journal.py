r"""The journal: every submission and every answer of a run, written before it is used.

A journal is a folder:

- ``journal.jsonl``: events, a line each, in the order in which they happened;
- ``calls/``: the models and settings of each call of ``sample``;
- ``packings/``: the cliques on which problems were placed;
- ``jobs/``: where each job's problems lay, and its gauge;
- ``answers/``: raw reads.

The events of a job are "job" (planned), "submit" (about to be sent, with the label that finds it
at the service), then "accepted" (with its problem id), "rejected" (it certainly did not run) or
"unseen" (nobody knows: it keeps its estimate charged), and at last "answer" or "ended" (failed or
cancelled). Each submission has a label of its own; "duplicate" says what became of one beside that
which gave the answer. Each line is on the disk before the next step is taken: whenever the process
dies, the journal says which jobs may have run, and their labels and ids pick up the answers instead
of paying for them again. No event holds a token.
"""

import hashlib
import io
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from qattn._atomic import flush_folder, write_atomically
from qattn._version import __version__
from qattn.backends.base import BackendStopped
from qattn.hardware.calls.event_log import (
    PRIVATE_FILE,
    PRIVATE_FOLDER,
    EventLog,
    JournalUnwritable,
    Place,
)
from qattn.hardware.calls.recorded_calls import RecordedCalls
from qattn.hardware.calls.records import PLANNED, CallRecord, JobRecord
from qattn.hardware.service.solver_api import RawAnswer

FORMAT = 2
"""Version of the folder's layout."""

READABLE = (1, 2)
"""Versions that are read; the first has no events "unseen" and "duplicate"."""

Arrays = dict[str, NDArray[Any]]


class JournalInUse(BackendStopped):
    """Another process writes to the journal."""


class JournalFileLost(BackendStopped, FileNotFoundError):  # noqa: N818
    """A file of arrays is missing, or cannot be read."""


def journal_of_rank(folder: Path, rank: int) -> Path:
    """The journal of one of several processes: `folder` of the first, and `folder`-RANK beside."""
    return folder.with_name(f"{folder.name}-{rank}") if rank else folder


class Journal:
    """A journal's folder, open for reading only or for writing.

    Args:
        folder: The folder; made at the first event.
        read_only: Write nothing and take no lock, as a replay does.

    Raises:
        FileNotFoundError: `read_only`, and the folder is not a journal.
        ValueError: The folder is of another format, or a line is not one of a journal.
        JournalInUse: Another process has it open for writing.
    """

    def __init__(self, folder: str | Path, *, read_only: bool = False) -> None:
        self.folder = Path(folder)
        self.events_file = self.folder / "journal.jsonl"
        self.read_only = read_only
        self._events = EventLog(self.events_file)
        self._writing = threading.RLock()
        self._lock: FileLock | None = None
        self._closed = False
        self.id = ""
        self._forget()
        if self.events_file.is_file():
            if read_only:
                self._read(repair=False)
            else:
                self.acquire()
        elif read_only:
            raise FileNotFoundError(
                f"There is no journal in {self.folder}: it has no {self.events_file.name}."
            )

    def acquire(self) -> bool:
        """Take the journal for writing, unless it is taken; whether its events were read here.

        Its folder is made at the first call for which it must be there; another run may have
        written to it meanwhile.

        Raises:
            JournalInUse: Another process has it open for writing.
            JournalUnwritable: The folder cannot be written to.
        """
        if self._closed or self.read_only:
            state = "closed" if self._closed else "open for reading only"
            raise BackendStopped(f"The journal {self.folder} is {state}.")
        if self._lock is not None:
            return False
        try:
            if not self.folder.is_dir():
                self.folder.mkdir(PRIVATE_FOLDER, parents=True)
                flush_folder(self.folder.parent)
            lock = FileLock(self.folder / "journal.lock", mode=PRIVATE_FILE)
            lock.acquire(timeout=0)
        except Timeout:
            raise JournalInUse(
                f"Another process writes to the journal {self.folder}: wait until it ends, "
                f"or choose another folder."
            ) from None
        except OSError as error:
            raise JournalUnwritable(self.folder, error) from None
        self._lock = lock
        try:
            if self.events_file.is_file():
                self._read(repair=True)
        except BaseException:
            self.close()
            raise
        return bool(self.calls)

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

    def unseen(self, job: str, message: str) -> None:
        """Record that the last submission of a job was not found: it may run all the same.

        Its estimate stays charged until :meth:`accepted` or :meth:`duplicate` says better.
        """
        self._add({"event": "unseen", "job": job, "message": message})

    def accepted(self, job: str, problem_id: str, label: str = "") -> None:
        """Record the service's id of a job; `label`: that of an earlier submission, if it is."""
        event = {"event": "accepted", "job": job, "problem_id": problem_id}
        self._add(event | ({"label": label} if label else {}))

    def duplicate(self, job: str, label: str, problem_id: str, state: str, seconds: float) -> None:
        """Record what became of a submission beside the one that gives the answer.

        `state` is the service's word; `seconds` is the QPU access time that it took.
        """
        event: dict[str, Any] = {"event": "duplicate", "job": job, "label": label}
        self._add(event | {"problem_id": problem_id, "state": state, "seconds": seconds})

    def ended(self, job: str, message: str, *, charged: bool) -> None:
        """Record that a job failed or was cancelled: it has no answer, and will have none.

        `charged`: count its estimate as spent, or, if it was answered, the time that it took.
        """
        self._add({"event": "ended", "job": job, "message": message, "charged": charged})

    def answered(self, job: str, answer: RawAnswer) -> None:
        """Record the answer of a job; its reads are stored as bits."""
        self.store_reads(job, answer)
        self._add({"event": "answer", "job": job, "timing": answer.timing})

    def store_reads(self, job: str, answer: RawAnswer) -> None:
        """Write the reads of a job, anew if need be."""
        arrays: Arrays = {"qubits": answer.qubits, "reads": np.packbits(answer.spins > 0, axis=1)}
        self._write_arrays(f"answers/{job}", arrays)

    def answer(self, job: str) -> RawAnswer:
        """The answer of an answered job.

        Raises:
            JournalFileLost: Its file is gone or damaged.
        """
        arrays = self.arrays("answers", job)
        bits = np.unpackbits(arrays["reads"], axis=1, count=len(arrays["qubits"]))
        spins = (2 * bits).astype(np.int8) - 1
        return RawAnswer(arrays["qubits"], spins, self.calls.job(job).timing)

    def arrays(self, kind: str, name: str) -> Arrays:
        """Arrays that were written: kind "calls", "packings", "jobs" or "answers".

        Raises:
            JournalFileLost: The file is gone or damaged.
        """
        path = self._arrays_file(f"{kind}/{name}")
        try:
            # Opened here: of a damaged file NumPy would leave its own open.
            with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
                return dict(file)
        except FileNotFoundError:
            reason = "lacks its file"
        except Exception as error:  # what zipfile, zlib and NumPy raise on damaged files
            if isinstance(error, OSError) and error.errno is not None:
                raise JournalUnwritable(self.folder, error) from None
            reason = "cannot read its file"
        raise JournalFileLost(
            f"The journal {self.folder} {reason} {kind}/{path.name}: put it back from a copy, or "
            f"resume the run that wrote it, which fetches answers again for nothing."
        )

    @property
    def jobs(self) -> dict[str, JobRecord]:
        """All jobs by name; those of finished calls are read from the file."""
        return {job.name: job for call in self.calls.values() for job in call.jobs}

    def close(self) -> None:
        """Release the journal, so that another process may write to it; this object may not."""
        with self._writing:
            self._closed = True
            self._events.close()
            if self._lock is not None:
                self._lock.release()
                self._lock = None

    def _arrays_file(self, name: str) -> Path:
        return self.folder / f"{name}.npz"

    def _write_arrays(self, name: str, arrays: Arrays) -> None:
        path = self._arrays_file(name)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        self._prepare()
        try:
            if not path.parent.is_dir():
                path.parent.mkdir(PRIVATE_FOLDER, exist_ok=True)
                flush_folder(self.folder)
            write_atomically(path, buffer.getvalue(), mode=PRIVATE_FILE)
        except OSError as error:
            raise JournalUnwritable(self.folder, error) from None

    def _prepare(self) -> None:
        with self._writing:
            self.acquire()
            if not self.id:
                name = os.urandom(4).hex()
                start = {"event": "journal", "format": FORMAT, "id": name, "qattn": __version__}
                self._events.append(start)
                self.id = name

    def _add(self, event: dict[str, Any]) -> Any:
        """Write an event to the disk, then apply it to the records in memory."""
        with self._writing:
            self._prepare()
            return self._apply(event, self._events.append(event))

    def _forget(self) -> None:
        self.calls = RecordedCalls(self._events)
        self.id = ""

    def _read(self, *, repair: bool) -> None:
        self._forget()
        for number, place, event in self._events.read(repair=repair):
            try:
                self._apply(event, place)
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"Line {number} of {self.events_file} is not one of a journal that this "
                    f"version can go on with: {error!r}. Choose another folder (--journal), or "
                    f"the version that wrote it."
                ) from None

    def _apply(self, event: dict[str, Any], place: Place) -> Any:
        if event["event"] != "journal":
            return self.calls.apply(event, place)
        if event["format"] not in READABLE:
            raise ValueError(f"format {event['format']}, and this version reads {FORMAT}")
        self.id = event["id"]
        return None


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
