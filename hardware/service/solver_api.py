"""Five requests to D-Wave's solver API, and what their failures mean for a job.

They go through sessions like those of Ocean's client, with its endpoint, token, time-outs and
proxies (:mod:`~qattn.hardware.service.sessions`). The client's own worker threads are not used:
they give up after one failed poll, and poll without end where an answer is missing.

The requests are those of D-Wave's page "SAPI REST Interface" (docs.dwavequantum.com,
leap_sapi/sapi_rest), which is [rest] below.
"""

import base64
import sys
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qattn.hardware.service.secret import Secret, redact, scrubbed
from qattn.hardware.service.sessions import SessionPool


class ServiceError(Exception):
    """A request failed; the message is one line without secrets."""


class Refused(ServiceError):  # noqa: N818 - it says what happened
    """The service said no: what was requested certainly did not happen."""


class Gone(Refused):
    """The service does not know what was requested, or not any more (HTTP 404, 410).

    D-Wave, SAPI REST, GET /problems/<id>: "404 for nonexistent or non-accessible" problems, "410
    for submitted problems that are no longer accessible".
    """


class Busy(Refused):
    """The service said no for now (HTTP 429)."""


class Unclear(ServiceError):  # noqa: N818
    """No usable answer: what was requested may have happened or not. Asking again is safe."""


@dataclass(frozen=True, eq=False)
class RawAnswer:
    """Reads of a job as the service sent them.

    Attributes:
        qubits: Labels of the A qubits that took part, shape (A,).
        spins: Values in {-1, +1}, shape (reads, A), int8, in the order in which they were read.
        timing: Times in microseconds, by the service's names for them.
    """

    qubits: NDArray[np.int32]
    spins: NDArray[np.int8]
    timing: dict[str, float]


@dataclass(frozen=True)
class JobStatus:
    """State of a job.

    Attributes:
        problem_id: The service's id.
        status: PENDING, IN_PROGRESS, COMPLETED, FAILED or CANCELLED.
        message: Why it failed.
    """

    problem_id: str
    status: str
    message: str = ""


class ProblemService:
    """Requests about the problems of one account, with a ``dwave.cloud`` client's configuration.

    Args:
        config: ``Client.config`` of a connected client.
    """

    def __init__(self, config: Any) -> None:
        self._token = Secret(config.token)
        self._compressed = bool(config.compress_qpu_problem_data)
        self._sessions = SessionPool(config)

    def submit(
        self,
        solver: Any,
        linear: dict[int, float],
        quadratic: dict[tuple[int, int], float],
        params: dict[str, Any],
        label: str,
    ) -> str:
        """Send an Ising problem and return its id.

        Args:
            solver: The solver of Ocean's client.
            linear: Bias of each qubit, in D-Wave's signs.
            quadratic: Bias of each coupler, in D-Wave's signs.
            params: Parameters of the solver.
            label: Label by which :meth:`find` finds the job.

        Raises:
            Refused: It was not accepted.
            Unclear: It may have been accepted: look for its label.
        """
        import orjson
        from dwave.cloud.coders import encode_problem_as_qp

        job = {
            "solver": solver.identity.dict(),
            "data": encode_problem_as_qp(solver, linear, quadratic, undirected_biases=True),
            "type": "ising",
            "params": params,
            "label": label,
        }
        body = orjson.dumps([job], option=orjson.OPT_SERIALIZE_NUMPY)
        headers = {"Content-Type": "application/json"}
        if self._compressed:
            body = zlib.compress(body)
            headers["Content-Encoding"] = "deflate"
        (item,) = self._items("post", "", data=body, headers=headers)
        if "error_msg" in item:
            code = item.get("error_code")
            text = redact(f"{item['error_msg']} ({code})", self._token)
            raise (Busy if code == 429 else Refused)(text)
        return _status(item).problem_id

    def find(self, label: str) -> JobStatus | None:
        """The latest job of this label, or None if the service has none.

        Raises:
            ServiceError: The request failed.
        """
        items = self._items("get", "", params={"label": label})
        jobs = [item for item in items if item.get("label") == label]
        return _status(jobs[0]) if jobs else None

    def status(self, problem_id: str, wait: float) -> JobStatus:
        """State of a job; the service may hold its response back for up to `wait` seconds.

        [rest] "List Problems": it takes an integer from 1 to 30 and answers 400 to any other.

        Raises:
            ServiceError: The request failed.
        """
        seconds = min(max(round(wait), 1), 30)
        (item,) = self._items("get", "", params={"id": problem_id, "timeout": seconds})
        return _status(item)

    def cancel(self, problem_id: str) -> JobStatus:
        """Cancel a job if it is still waiting; its state afterwards.

        Raises:
            ServiceError: The request failed.
        """
        return _status(self._json("problem", "delete", problem_id))

    def answer(self, problem_id: str) -> RawAnswer:
        """Answer of a completed job.

        Raises:
            ServiceError: The request failed; :class:`Unclear` also where the answer is missing or
                cannot be decoded.
        """
        message = self._json("problem", "get", f"{problem_id}/")
        try:
            return _decoded(message)
        except (KeyError, TypeError, ValueError) as error:
            raise Unclear(
                f"the answer of job {problem_id} cannot be decoded: {type(error).__name__}"
            ) from None

    def close(self) -> None:
        """Close all sessions."""
        self._sessions.close()

    def _items(self, method: str, path: str, **kwargs: Any) -> list[dict[str, Any]]:
        items = self._json("problems", method, path, **kwargs)
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise Unclear("the service's response is not a list of problems")
        if not items and "label" not in kwargs.get("params", {}):
            raise Unclear("the service's response is an empty list")
        return items

    def _json(self, kind: str, method: str, path: str, **kwargs: Any) -> Any:
        import orjson

        media_type = f"application/vnd.dwave.sapi.{kind}+json"
        with self._sessions.session() as session:
            session.set_accept(media_type=media_type, accept_version="~=3.0", ask_version="3.0.0")
            try:
                response = getattr(session, method)(path, **kwargs)
                return orjson.loads(response.content)
            except Exception as error:
                raise self._classified(error) from None

    def _classified(self, error: Exception) -> ServiceError:
        """The error that says what a failure of Ocean's client means for a job."""
        from dwave.cloud.api import exceptions as api

        text = scrubbed(error, self._token)[:300]
        if isinstance(error, api.ResourceLimitsExceededError):
            return Busy(text)
        code = getattr(error, "error_code", None)
        if code in (404, 410):
            return Gone(text)
        if isinstance(code, int) and 400 <= code < 500:
            return Refused(text)
        return Unclear(text)


def _status(item: dict[str, Any]) -> JobStatus:
    try:
        return JobStatus(str(item["id"]), str(item["status"]), item.get("error_message") or "")
    except KeyError as error:
        raise Unclear(f"the service's response lacks {error}") from None


def _decoded(message: dict[str, Any]) -> RawAnswer:
    """Reads of an answer in the format "qp": bits, most significant first, 0 for spin -1."""
    answer = message["answer"]
    qubits = np.frombuffer(base64.b64decode(answer["active_variables"], validate=True), "<i4")
    energies = np.frombuffer(base64.b64decode(answer["energies"], validate=True), "<f8")
    packed = np.frombuffer(base64.b64decode(answer["solutions"], validate=True), np.uint8)
    # Every row is padded to whole bytes.
    bits = np.unpackbits(packed.reshape(len(energies), -(-len(qubits) // 8)), axis=1)
    spins = (2 * bits[:, : len(qubits)]).astype(np.int8) - 1
    if "num_occurrences" in answer:
        counts = np.frombuffer(base64.b64decode(answer["num_occurrences"], validate=True), "<i4")
        spins = np.repeat(spins, counts, axis=0)
    return RawAnswer(qubits.astype(np.int32), spins, _numbers(answer.get("timing")))


def _numbers(timing: Any) -> dict[str, float]:
    """The entries that are numbers: some solvers add warnings, lists or nothing at all.

    Their names are kept once, not once for each of the many answers of a run.
    """
    entries = timing.items() if isinstance(timing, dict) else ()
    return {
        sys.intern(name): float(value)
        for name, value in entries
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
