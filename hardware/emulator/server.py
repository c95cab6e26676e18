"""An emulated D-Wave processor behind a local HTTP server."""

import secrets
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from qattn.hardware.embedding.working_graph import WorkingGraph
from qattn.hardware.emulator.api import SolverAPI
from qattn.hardware.emulator.faults import Fault, FaultQueue
from qattn.hardware.emulator.http import PREFIX, Server
from qattn.hardware.emulator.jobs import AccountEntry, JobQueue, account_writer
from qattn.hardware.emulator.physics.device import EmulatedDevice
from qattn.hardware.emulator.settings import EmulatorSettings
from qattn.hardware.emulator.tls import server_context


class EmulatedQPU:
    """A loopback QPU: speaks D-Wave's solver API (SAPI 3) to the unmodified Ocean client.

    For development and tests of any program that uses Ocean, with or without the rest of qattn:
    Ising problems and QUBOs, raw answers and histograms, auto-scaling, standard and fast anneals.
    Nothing that it answers comes from a quantum computer, and its solver's name, tags and
    properties say "emulated"::

        with EmulatedQPU(shape=(3, 4), beta_h=3.0, beta_J=4.0) as qpu:
            with DWaveSampler(**qpu.client_options) as sampler:
                sampler.sample_ising({}, {(0, 2): -1.0}, num_reads=100, auto_scale=False)

    Args:
        settings: Settings; None means the defaults.
        **changes: Fields of :class:`~qattn.hardware.emulator.settings.EmulatorSettings` that
            differ from `settings`.

    Raises:
        ValueError: A setting is out of range.
        OSError: The port is taken.
    """

    def __init__(self, settings: EmulatorSettings | None = None, **changes: Any) -> None:
        settings = replace(settings or EmulatorSettings(), **changes)
        graph = WorkingGraph.perfect(settings.topology, *settings.shape)
        if settings.dead_qubits or settings.dead_couplers:
            graph = graph.with_defects(settings.dead_qubits, settings.dead_couplers, settings.seed)
        self.token = settings.token or f"EMU-{secrets.token_hex(20)}"
        self.settings = replace(settings, token=None)
        device = EmulatedDevice(graph, settings.solver_name)
        self._api = SolverAPI(self.settings, device, JobQueue(), FaultQueue())
        if settings.spare:
            self._api.spare = EmulatedDevice(
                with_one_more_dead_qubit(graph, settings.seed), f"{device.name}_spare"
            )
        if settings.account is not None:
            self._api.queue.on_change = account_writer(settings.account, self.name, self._api.queue)
        self._server: Server | None = None
        self._threads: list[threading.Thread] = []

    def start(self) -> "EmulatedQPU":
        """Begin to serve until :meth:`stop`, which is final."""
        if self._server is not None or self._api.queue.closed:
            raise RuntimeError("The emulated QPU was started already: make a new one.")
        tls = None if self.settings.tls is None else server_context(Path(self.settings.tls))
        self._server = Server(self._api, self.token, self.settings.port, tls)
        for name, target in (("http", self._serve), ("qpu", self._api.run)):
            thread = threading.Thread(target=target, name=f"emulated-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def stop(self) -> None:
        """Close every connection and end the threads; the account stays readable."""
        if self._server is None:
            return
        self._api.queue.close()
        self._api.queue.on_change()
        self._server.close()
        for thread in self._threads:
            thread.join(timeout=10)
        self._threads.clear()
        self._server = None

    def __enter__(self) -> "EmulatedQPU":
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        where = self.endpoint if self._server is not None else "not running"
        return f"EmulatedQPU({self.name!r}, {where})"

    @property
    def name(self) -> str:
        """Name of the solver."""
        return self._api.device.name

    @property
    def endpoint(self) -> str:
        """URL for Ocean's `endpoint`."""
        if self._server is None:
            raise RuntimeError("The emulated QPU is not running: use it in a with statement.")
        return f"{self._server.address}{PREFIX}"

    @property
    def client_options(self) -> dict[str, str]:
        """`endpoint`, `token` and `solver` for ``DWaveSampler`` or ``dwave.cloud.Client``."""
        return {"endpoint": self.endpoint, "token": self.token, "solver": self.name}

    @property
    def graph(self) -> WorkingGraph:
        """The working graph."""
        return self._api.device.graph

    @property
    def graph_id(self) -> str:
        """Id of the working graph, as the solver publishes it."""
        return self._api.device.graph_id

    @property
    def properties(self) -> dict[str, Any]:
        """The solver's properties."""
        return self._api.device.properties

    @property
    def jobs(self) -> list[AccountEntry]:
        """The emulator's own account: every job that it accepted, oldest first."""
        return self._api.queue.account

    @property
    def access_time_us(self) -> float:
        """QPU access time of all jobs that ran, in µs."""
        return sum((job.access_time_us for job in self.jobs), 0.0)

    @property
    def redirects_followed(self) -> int:
        """Number of requests that came to the address to which the fault "redirect" sends them."""
        return self._api.redirects_followed

    @property
    def online(self) -> bool:
        """Whether the solver is online; assign to change it."""
        return self._api.online

    @online.setter
    def online(self, value: bool) -> None:
        self._api.online = value

    def fault(self, where: str, kind: str | int, **timing: Any) -> None:
        """Queue a fault; see :class:`~qattn.hardware.emulator.faults.Fault`.

        Args:
            where: The kind of request, or "job".
            kind: What happens.
            **timing: `times`, `after` and `seconds`.

        Raises:
            ValueError: There is no such fault, or it needs the setting `tls`.
        """
        fault = Fault(where, str(kind), **timing)
        if fault.kind == "tls" and self.settings.tls is None:
            raise ValueError("The fault 'tls' needs an emulator with the setting `tls`.")
        self._api.faults.add(fault)

    def clear_faults(self) -> None:
        """Forget all faults that have not happened."""
        self._api.faults.clear()

    def recalibrate(self) -> str:
        """Let one more qubit die, as happens on a real device, and return the new graph id."""
        self._api.device = EmulatedDevice(
            with_one_more_dead_qubit(self.graph, self.settings.seed), self.name
        )
        return self.graph_id

    def _serve(self) -> None:
        assert self._server is not None
        self._server.serve_forever(poll_interval=0.05)


def with_one_more_dead_qubit(graph: WorkingGraph, seed: int) -> WorkingGraph:
    """The graph without one more of its qubits, which the seed and their number decide."""
    rng = np.random.default_rng([seed, 3, len(graph.qubits)])
    dead = rng.choice(graph.qubits)
    return WorkingGraph(
        graph.topology,
        graph.shape,
        graph.qubits[graph.qubits != dead],
        graph.couplers[(graph.couplers != dead).all(1)],
        f"{graph.graph_id}-recalibrated",
    )
