"""The settings of an emulated QPU: graph, temperatures, noise, and how it is served."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from qattn.hardware.embedding.working_graph import WorkingGraph
from qattn.hardware.emulator.physics.device_models import CHAIN_OFFSET, device_model
from qattn.simulators.schedules import AnnealSchedule


@dataclass(frozen=True, kw_only=True)
class EmulatorSettings:
    r"""Settings of an :class:`~qattn.hardware.emulator.EmulatedQPU`.

    Args:
        device: A real processor whose published counts of qubits and couplers, programming and
            readout times it has: "advantage2-system1", "advantage2-system2" or
            "advantage2-system4". None means a processor of `topology` and `shape`.
        topology: "zephyr" or "pegasus".
        shape: (m, t) of a Zephyr graph, (m,) of a Pegasus graph; None means that of `device`, or
            (3, 4).
        dead_qubits: Fraction of the qubits that do not work, of those that `device` has.
        dead_couplers: Fraction of the other couplers that do not work.
        seed: Fixes the defects, the flux offsets and, job by job in the order of acceptance, all
            noise and all reads.
        beta_h: Inverse temperature of fields: reads have P ∝ exp(-β_h Σ h s - β_J Σ J s s) in
            D-Wave's signs. The defaults are those of first-order theory for the published fast
            schedule of Advantage2_system4 at 5 ns.
        beta_J: Inverse temperature of couplings.
        schedule: An anneal schedule, its name, or the file of a published table: answers then come
            from the simulated diabatic anneal of the job's annealing time. `beta_h`, `beta_J` and
            `drift` are not used.
        sheet: "fast" or "standard", where `schedule` is an xlsx file.
        chain_threshold: With `schedule`, couplers with J at or below this are chains, which do not
            break and are simulated as one spin.
        h_noise: Standard deviation of the control error on each active qubit, drawn anew for every
            job, in units of h.
        J_noise: The same on each coupler with J ≠ 0, in units of J.
        flux_offset: Standard deviation of the permanent field of each qubit, in units of h.
        chain_offset: Standard deviation of the field, in units of h, that each qubit has besides
            when its strongest negative coupling J is -2, twice what processors are calibrated for;
            it grows as -J - 1 from there. None means 0, or 0.01 with a `device`: no size is
            published.
        readout_flip: Probability that a qubit is read wrongly, for each qubit and read.
        drift: Relative growth of both inverse temperatures over 1,000 jobs.
        timing_spread: Largest relative deviation of programming and readout times from those that
            ``problem_timing_data`` predicts.
        name: Solver name, which must hold the word "emulated"; None means one from the topology.
        token: What clients must send as X-Auth-Token; None means a random one.
        port: TCP port on 127.0.0.1; 0 takes a free one.
        tls: Serve https, with a new certificate of its own for 127.0.0.1, which is written to this
            file. Clients trust it with ``REQUESTS_CA_BUNDLE=FILE`` in their environment. None means
            http.
        max_wait: Longest time in seconds that a poll is held open.
        default_wait: Time in seconds for which a request about jobs is held open if it does not say
            for how long, until one of them has ended; a QPU's service takes a second.
        spare: Offer a second processor under the name of the first and "_spare", with one dead
            qubit more, which stays online when the first goes offline.
        account: File for the account of jobs as JSON, rewritten at every change; None means none.

    Raises:
        ValueError: A value is out of range.
    """

    device: str | None = None
    topology: str = "zephyr"
    shape: tuple[int, ...] | None = None
    dead_qubits: float = 0.0
    dead_couplers: float = 0.0
    seed: int = 0
    beta_h: float = 10.2
    beta_J: float = 11.2
    schedule: AnnealSchedule | str | Path | None = None
    sheet: str = "fast"
    chain_threshold: float = -1.0
    h_noise: float = 0.0
    J_noise: float = 0.0
    flux_offset: float = 0.0
    chain_offset: float | None = None
    readout_flip: float = 0.0
    drift: float = 0.0
    timing_spread: float = 0.02
    name: str | None = None
    token: str | None = field(default=None, repr=False)
    port: int = 0
    tls: str | Path | None = None
    max_wait: float = 30.0
    default_wait: float = 1.0
    spare: bool = False
    account: Path | None = None

    def __post_init__(self) -> None:
        if device_model(self.device) is not None and (
            self.shape is not None or self.topology != "zephyr"
        ):
            raise ValueError(
                f"Argument `shape` must be left out with a `device`, which has its own, but is "
                f"{self.shape} of a {self.topology} graph."
            )
        names = ("beta_h", "beta_J", "h_noise", "J_noise", "flux_offset", "chain_offset")
        for name in (*names, "max_wait", "default_wait"):
            value = getattr(self, name) or 0.0
            if not (value >= 0 and math.isfinite(value)):
                raise ValueError(
                    f"Argument `{name}` must be finite and not negative, but is {value}."
                )
        for name in ("readout_flip", "timing_spread"):
            value = getattr(self, name)
            if not 0 <= value <= 0.5:
                raise ValueError(f"Argument `{name}` must be between 0 and 0.5, but is {value}.")
        if not 0 <= self.port <= 65535:
            raise ValueError(
                f"Argument `port` must be between 0 and 65535, but is {self.port}: 0 takes a free "
                f"port."
            )
        if self.name is not None and "emulated" not in self.name.lower():
            raise ValueError(
                f"Argument `name` must hold the word 'emulated', so that no result is taken for "
                f"a QPU's, but is {self.name!r}."
            )
        if self.token == "":
            raise ValueError("Argument `token` must not be empty: leave it out for a random one.")

    @property
    def offset_of_chains(self) -> float:
        """`chain_offset` where it is given, else its default."""
        if self.chain_offset is not None:
            return self.chain_offset
        return 0.0 if self.device is None else CHAIN_OFFSET

    @property
    def solver_name(self) -> str:
        """The solver's name."""
        if self.name is not None:
            return self.name
        if (model := device_model(self.device)) is not None:
            return f"Emulated_{model.name}"
        return "_".join(["Emulated", self.topology, *map(str, self._shape)])

    @property
    def _shape(self) -> tuple[int, ...]:
        return (3, 4) if self.shape is None else self.shape

    def working_graph(self) -> WorkingGraph:
        """The processor's graph less what is dead."""
        if (model := device_model(self.device)) is not None:
            graph = model.graph(self.seed)
        else:
            graph = WorkingGraph.perfect(self.topology, *self._shape)
        if self.dead_qubits or self.dead_couplers:
            graph = graph.with_defects(self.dead_qubits, self.dead_couplers, self.seed)
        return graph
