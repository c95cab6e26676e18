"""The routes of the solver API, without HTTP: what each request does and answers."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qattn.hardware.emulator.faults import OUTCOME_MESSAGES, FaultQueue
from qattn.hardware.emulator.jobs import Job, JobQueue
from qattn.hardware.emulator.physics.device import EmulatedDevice
from qattn.hardware.emulator.physics.physical_problem import RejectedJobError
from qattn.hardware.emulator.physics.run_job import run_job
from qattn.hardware.emulator.settings import EmulatorSettings

MAX_STATUSES = 1000
"""Largest number of problems in one listing."""

log = logging.getLogger(__name__)


class RequestError(Exception):
    """A request that is answered with an HTTP error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(eq=False)
class SolverAPI:
    """State and requests of the emulated service.

    Attributes:
        settings: The emulator's settings.
        device: The processor, replaced when it is recalibrated.
        queue: Its jobs.
        faults: Faults that wait for their request or job.
        online: Whether the solver is online.
        spare: A second processor, which is always online, or None.
        redirects_followed: Requests that came to the address where the fault "redirect" sends them.
    """

    settings: EmulatorSettings
    device: EmulatedDevice
    queue: JobQueue
    faults: FaultQueue
    online: bool = True
    spare: EmulatedDevice | None = None
    redirects_followed: int = 0

    def solvers(self, name: str | None, fields: str) -> str:
        """The solvers' definitions as JSON: a list of them, or one if named.

        Args:
            name: Name or identity of the requested solver; None means all.
            fields: SAPI's filter, such as "none,+identity,+status".
        """
        definitions = [
            self._definition(device, fields)
            for device in self._devices
            if name in (None, device.name, f"{device.name};graph_id={device.graph_id}")
        ]
        if not definitions:
            raise RequestError(404, f"Solver {name} not found")
        return f"[{', '.join(definitions)}]" if name is None else definitions[0]

    @property
    def _devices(self) -> list[EmulatedDevice]:
        return [self.device] if self.spare is None else [self.device, self.spare]

    def _definition(self, device: EmulatedDevice, fields: str) -> str:
        if fields == "all,-status,-avg_load":
            return device.definition_json
        online = self.online or device is self.spare
        status = {"status": "ONLINE" if online else "OFFLINE", "avg_load": 0.0}
        return json.dumps(_filtered(device.definition | status, fields))

    def submit(self, requests: list[Any]) -> list[dict[str, Any]]:
        """Accept jobs: the status of each, or why it is not accepted."""
        return [self._submit(request) for request in requests]

    def _submit(self, request: Any) -> dict[str, Any]:
        if not (isinstance(request, dict) and isinstance(request.get("data"), dict)):
            return error_body(400, "Problem must be an object with data")
        solver = request.get("solver")
        device = next((d for d in self._devices if solver in (d.identity, d.name)), None)
        if device is None:
            return error_body(404, "Solver does not exist or is another version of its graph")
        if request.get("type") not in ("ising", "qubo"):
            return error_body(400, f"Unsupported problem type: {request.get('type')!r}")
        fault = self.faults.next("job")
        outcome = None if fault is None else fault.kind
        if outcome == "rejected":
            return error_body(403, OUTCOME_MESSAGES[outcome])
        seconds = 0.0 if fault is None else fault.seconds
        job = self.queue.accept(request, device.identity, outcome, seconds)
        return {**job.message(), "status": "PENDING"}

    def poll(self, ids: list[str], timeout: float | None) -> list[dict[str, Any]]:
        """Statuses of jobs, as soon as one of them has ended or after `timeout` seconds.

        [rest] "List Problems": without a timeout, the request blocks for up to a second.
        """
        jobs = self._known(ids)
        self.queue.wait_any(jobs, self._wait(timeout))
        return [job.message() for job in jobs]

    def _wait(self, timeout: float | None) -> float:
        wanted = self.settings.default_wait if timeout is None else timeout
        return min(wanted, self.settings.max_wait)

    def listing(self, query: Mapping[str, str], timeout: float | None) -> list[dict[str, Any]]:
        """Statuses of jobs with this text in their label, and of this status and solver.

        [rest] "List Problems", Filter Keys: labels that *contain* the text. The order is not
        documented; here the newest come first.
        """
        max_results = min(int(query.get("max_results", MAX_STATUSES)), MAX_STATUSES)
        text, solver = query.get("label", ""), query.get("solver")
        jobs = [
            job
            for job in reversed(self.queue.all())
            if job.listed and text in (job.label or "") and solver in (None, job.identity["name"])
        ]
        self.queue.wait_any(jobs, self._wait(timeout))
        messages = [job.message() for job in jobs]
        status = query.get("status")
        return [found for found in messages if status in (None, found["status"])][:max_results]

    def problem(self, id_: str, with_answer: bool = True) -> tuple[Job, str]:
        """A job and its status as JSON, with the answer if there is one."""
        job = self._known([id_])[0]
        text = json.dumps(job.message())
        if with_answer and job.answer is not None and job.outcome != "no-answer":
            text = f'{text[:-1]}, "answer": {job.answer}}}'
        return job, text

    def cancel(self, ids: list[str]) -> list[dict[str, Any]]:
        """Cancel those jobs that have not started; the statuses of all."""
        jobs = self.queue.cancel(ids)
        return [
            error_body(404, "Problem not found") if job is None else job.message() for job in jobs
        ]

    def run(self) -> None:
        """Run jobs one after the other until the queue is closed."""
        while (job := self.queue.start_next()) is not None:
            self._run(job)

    def _run(self, job: Job) -> None:
        if job.outcome == "cancelled":
            return self.queue.finish(job, "CANCELLED")
        message = OUTCOME_MESSAGES.get(job.outcome or "")
        device = next((d for d in self._devices if d.identity == job.identity), None)
        if message is None and device is self.device and not self.online:
            message = OUTCOME_MESSAGES["offline"]
        try:
            if message is not None:
                raise RejectedJobError(message)
            if device is None:
                raise RejectedJobError("The working graph has changed since submission")
            answer, num_qubits, access_time = run_job(job.request, job.index, device, self.settings)
        except RejectedJobError as error:
            return self.queue.finish(job, "FAILED", error_message=str(error))
        except Exception as error:
            log.exception("job %s", job.id)
            return self.queue.finish(
                job, "FAILED", error_message=f"Emulator error: {type(error).__name__}"
            )
        return self.queue.finish(
            job, "COMPLETED", answer=answer, num_qubits=num_qubits, access_time_us=access_time
        )

    def _known(self, ids: list[str]) -> list[Job]:
        jobs = [job for job in self.queue.get(ids) if job is not None]
        if len(jobs) < len(ids):
            raise RequestError(404, "Problem does not exist")
        if any(job.gone for job in jobs):
            raise RequestError(410, "Problem is no longer accessible")
        return jobs


def error_body(code: int, message: str) -> dict[str, Any]:
    """An error as SAPI states it."""
    return {"error_code": code, "error_msg": message}


def _filtered(definition: dict[str, Any], fields: str) -> dict[str, Any]:
    """SAPI's filter: "all" or "none", then fields to add or take away: "+properties.qubits"."""
    base, *changes = [part.strip() for part in fields.split(",") if part.strip()] or ["all"]
    filtered = {} if base == "none" else definition | {"properties": dict(definition["properties"])}
    for change in changes:
        path = change.lstrip("+-").split(".")
        source, target = definition, filtered
        for key in path[:-1]:
            source, target = source.get(key, {}), target.setdefault(key, {})
        if change.startswith("-"):
            target.pop(path[-1], None)
        elif path[-1] in source:
            target[path[-1]] = source[path[-1]]
    return filtered
