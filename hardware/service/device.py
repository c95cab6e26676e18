"""A connected QPU: its working graph, its properties, and the service that runs its jobs."""

import sqlite3
from collections.abc import Callable, Collection
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qattn.backends.base import BackendStopped
from qattn.hardware.embedding.find_packing import best_packing
from qattn.hardware.embedding.own_graph import pack_graph
from qattn.hardware.embedding.packing import Packing
from qattn.hardware.embedding.pattern import Pattern
from qattn.hardware.embedding.working_graph import WorkingGraph
from qattn.hardware.service.credentials import Credentials
from qattn.hardware.service.secret import scrubbed
from qattn.hardware.service.sessions import client_of
from qattn.hardware.service.solver_api import ProblemService

TIMING_PARAMETERS = (
    *("num_reads", "annealing_time"),
    *("readout_thermalization", "reduce_intersample_correlation"),
)
"""Parameters of a job that decide how long it runs."""


class SolverUnavailable(BackendStopped):
    """No solver matches, it is offline, or the service cannot be reached or refuses the token."""


class Device:
    """A solver of Ocean's client.

    Args:
        client: A connected ``dwave.cloud.Client``; it is closed with the device.
        solver: One of its solvers.

    Attributes:
        name: The solver's name.
        properties: Its properties, as D-Wave publishes them.
        emulated: Whether this is a program that speaks a QPU's protocol.
        graph: Its working graph.
        service: The service that runs its jobs.

    Raises:
        ValueError: Its working graph is neither Zephyr nor Pegasus.
    """

    def __init__(self, client: Any, solver: Any) -> None:
        self.client, self.solver = client, solver
        self.name = str(solver.name)
        self.properties: dict[str, Any] = dict(solver.properties)
        self.emulated = bool(self.properties.get("emulated", False))
        self.graph = WorkingGraph.from_properties(self.properties, self.solver.graph_id or "")
        self.service = ProblemService(client.config)
        self._packings: dict[tuple[Pattern, Path | None, bytes], Packing] = {}

    def max_reads(self, num_qubits: int, params: dict[str, Any]) -> int:
        r"""Largest number of reads of one job that programs so many qubits.

        D-Wave limits (a + t + r) R + p, in which a is the annealing time, t the thermalisation
        before a read (or the longer pause that reduces correlations), r the time of a read-out,
        which grows with the number of qubits, R the number of reads, and p the thermalisation
        after programming (docs.dwavequantum.com, "Operation and Timing", QMI Runtime Limit; the
        read-out is added here, on the safe side).

        Args:
            num_qubits: Active qubits.
            params: Parameters of the job; those that take time are used.

        Raises:
            SolverUnavailable: The solver publishes no timing data.
        """
        most = int(self.properties["num_reads_range"][1])
        limit = self.properties.get("problem_run_duration_range")
        if limit is None:
            return most
        # Ocean's estimate is linear in the reads; a delay that the limit does not count is in it.
        one, two = (
            1e6 * self.access_time(num_qubits, params | {"num_reads": reads}) for reads in (1, 2)
        )
        each = two - one - self.properties["problem_timing_data"]["qpu_delay_time_per_sample"]
        left = limit[1] - self.properties["default_programming_thermalization"]
        return max(1, min(most, int(left / each * (1 - 1e-9))))

    def packing(
        self,
        pattern: Pattern | int,
        folder: Path | None = None,
        pairs: NDArray[np.int64] | None = None,
    ) -> Packing:
        """Disjoint slots for problems of a pattern, as many as could be packed, kept in memory.

        Args:
            pattern: What the problems couple; a number means a clique of so many spins.
            folder: Where packings are kept, as in :func:`best_packing`, which chooses.
            pairs: Embeddings of the graph with these edges instead.

        Raises:
            ValueError: Not one fits.
        """
        pattern = Pattern(pattern) if isinstance(pattern, int) else pattern
        key = pattern, folder, b"" if pairs is None else pairs.tobytes()
        if key not in self._packings:
            self._packings[key] = (
                best_packing(self.graph, pattern, folder=folder)
                if pairs is None
                else pack_graph(self.graph, pattern.num_spins, pairs)
            )
        return self._packings[key]

    def access_time(self, num_qubits: int, params: dict[str, Any]) -> float:
        """Ocean's estimate of a job's QPU access time, in seconds.

        Raises:
            SolverUnavailable: The solver publishes no timing data.
        """
        used = {name: params[name] for name in TIMING_PARAMETERS if name in params}
        try:
            microseconds = self.solver.estimate_qpu_access_time(num_qubits, **used)
        except (KeyError, ValueError) as error:
            raise SolverUnavailable(
                f"The QPU access time on {self.name} cannot be estimated: {error}."
            ) from None
        return float(microseconds) * 1e-6

    @cached_property
    def description(self) -> dict[str, Any]:
        """Name, graph and nature of the solver, for reports."""
        return {
            "solver": self.name,
            "graph_id": self.graph.graph_id,
            "topology": self.graph.topology,
            "num_qubits": len(self.graph.qubits),
            "emulated": self.emulated,
        }

    def refreshed(self) -> "Device":
        """The same solver as the service defines it now.

        Raises:
            SolverUnavailable: The solver is gone, or the service cannot be reached.
        """
        try:
            solver = self.client.get_solver(name=self.name, refresh=True)
        except Exception as error:
            raise SolverUnavailable(
                f"{self.name} cannot be found again: {type(error).__name__}."
            ) from None
        return Device(self.client, solver)

    def close(self) -> None:
        """Close all connections."""
        self.service.close()
        self.client.close()


def connect(credentials: Credentials, *, avoid: Collection[str] = ()) -> Device:
    """A connection to the solver that the credentials name or describe.

    Args:
        credentials: Endpoint, token and solver.
        avoid: Names of solvers to pass over where others have the features.

    Raises:
        SolverUnavailable: No solver matches, or the service cannot be reached; the message is one
            line without the token.
    """
    client = _explained(lambda: client_of(credentials), credentials)
    try:
        solvers = _explained(lambda: _solvers(client), credentials)
        for solver in solvers:
            if solver.name not in avoid:
                return Device(client, solver)
        raise SolverUnavailable(
            f"No other solver than {', '.join(sorted(avoid))} has the features asked for: ask for "
            f"features instead of a name, or wait."
        )
    except BaseException:
        client.close()
        raise


def _solvers(client: Any) -> list[Any]:
    """The solvers that have the features asked for, the preferred first."""
    features = dict(client.config.solver)
    solvers = client.get_solvers(order_by=features.pop("order_by", "avg_load"), **features)
    if not solvers:
        from dwave.cloud.exceptions import SolverNotFoundError

        raise SolverNotFoundError("Solver with the requested features not available")
    return list(solvers)


def _explained(action: Callable[[], Any], credentials: Credentials) -> Any:
    """Return value of the action; its failures become SolverUnavailable in one line."""
    from dwave.cloud.config import get_cache_dir
    from dwave.cloud.exceptions import SolverAuthenticationError, SolverNotFoundError

    where = credentials.endpoint or credentials.region or "Leap's default region"
    try:
        return action()
    except SolverAuthenticationError:
        message = (
            f"The service at {where} rejected the token from "
            f"{credentials.sources.get('token', 'an unknown place')}: copy it anew from Leap."
        )
    except SolverNotFoundError as error:
        message = (
            f"No solver at {where} matches {credentials.solver or 'a QPU'} and is online: "
            f"{scrubbed(error, credentials.token)}."
        )
    except Exception as error:
        message = f"The service at {where} cannot be used: {scrubbed(error, credentials.token)}."
        cache = get_cache_dir(create=False)
        if isinstance(error, sqlite3.Error) or (isinstance(error, OSError) and cache in str(error)):
            message = (
                f"Ocean's client cannot write its cache in {cache} "
                f"({scrubbed(error, credentials.token)}): set XDG_CACHE_HOME to a folder that can "
                f"be written."
            )
    raise SolverUnavailable(message)
