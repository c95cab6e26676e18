"""The calls of a journal: unfinished ones in memory, the others where they lie in its file."""

from collections.abc import Iterator, Mapping
from typing import Any
from weakref import WeakValueDictionary

from qattn.backends.base import BackendStopped
from qattn.hardware.calls.event_log import EventLog, Place
from qattn.hardware.calls.records import CallRecord, JobRecord


class RecordedCalls(Mapping[str, CallRecord]):
    """The calls of a journal by name, in the order in which they were made.

    A training makes as many calls as it has layers and steps. Once a call is finished, only its
    name and the place of its events in the file stay in memory, some 300 bytes, and its record is
    read again when it is wanted. A record that is in use follows every event.

    Args:
        log: The file of events.

    Attributes:
        resolved_access_time: QPU access time, in seconds, of the submissions of which it is known.
        worst_estimate: Largest ratio of the time that a job took to its estimate; 0 before the
            first.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._places: dict[str, Place] = {}
        self._unfinished: dict[str, CallRecord] = {}
        self._in_use: WeakValueDictionary[str, CallRecord] = WeakValueDictionary()
        self._jobs: WeakValueDictionary[str, JobRecord] = WeakValueDictionary()
        self.resolved_access_time = self.worst_estimate = 0.0

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __getitem__(self, name: str) -> CallRecord:
        """The record of a call.

        Raises:
            KeyError: There is none.
            BackendStopped: The file does not have it any more.
        """
        record = self._in_use.get(name)
        return self._read(name, self._places[name]) if record is None else record

    def job(self, name: str) -> JobRecord:
        """The record of a job."""
        call = self._call_of(name)
        return {job.name: job for job in call.jobs}[name]

    @property
    def unfinished_jobs(self) -> list[JobRecord]:
        """The jobs of the calls of which something is still to come or to be known."""
        return [job for call in self._unfinished.values() for job in call.jobs]

    def apply(self, event: dict[str, Any], place: Place) -> CallRecord | JobRecord:
        """Follow an event of the file; returns the record that did.

        Raises:
            ValueError: It is not an event of a call or a job.
            KeyError: It lacks a field, or what it speaks of.
        """
        followed: CallRecord | JobRecord
        if event["event"] == "call":
            followed = call = CallRecord.of(event)
            self._in_use[call.name] = call
        elif event["event"] == "job":
            call = self[event["call"]]
            followed = job = JobRecord.of(event)
            call.jobs.append(job)
            self._jobs[job.name] = job
        else:
            call = self._call_of(event["job"])
            followed = job = self._jobs[event["job"]]
            before = job.resolved_access_time
            job.apply(event)
            self.resolved_access_time += job.resolved_access_time - before
            if job.status == "answered" and job.current is not None and job.current.estimate > 0:
                ratio = job.current.charge / job.current.estimate
                self.worst_estimate = max(self.worst_estimate, ratio)
        start, _ = self._places.get(call.name, place)
        self._places[call.name] = start, place[1]
        if call.finished:
            self._unfinished.pop(call.name, None)
        else:
            self._unfinished[call.name] = call
        return followed

    def _call_of(self, job: str) -> CallRecord:
        record = self._jobs.get(job)
        # A job of a finished call has the name of the call and a number.
        return self[job.rpartition("-")[0] if record is None else record.call]

    def _read(self, name: str, place: Place) -> CallRecord:
        """A finished call, from the file; events of other calls may lie between its own."""
        call, jobs = None, dict[str, JobRecord]()
        for event in self._log.between(place):
            if event["event"] == "call" and event["call"] == name:
                call = CallRecord.of(event)
            elif event["event"] == "job" and event["call"] == name:
                jobs[event["job"]] = JobRecord.of(event)
            elif event.get("job") in jobs:
                jobs[event["job"]].apply(event)
        if call is None:
            raise BackendStopped(
                f"{self._log.path} has been changed while it was in use, and lacks call {name}: "
                f"put it back from a copy, and resume."
            )
        call.jobs += jobs.values()
        self._in_use[name] = call
        self._jobs.update(jobs)
        return call
