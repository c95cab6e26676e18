"""The settings of an emulated QPU: graph, temperatures, noise, and how it is served."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from qattn.simulators.schedules import AnnealSchedule


@dataclass(frozen=True, kw_only=True)
class EmulatorSettings:
    r"""Settings of an :class:`~qattn.hardware.emulator.EmulatedQPU`.

    Args:
        topology: "zephyr" or "pegasus".
        shape: (m, t) of a Zephyr graph, (m,) of a Pegasus graph.
        dead_qubits: Fraction of the qubits that do not work.
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

    topology: str = "zephyr"
    shape: tuple[int, ...] = (3, 4)
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
        for name in (
            "beta_h",
            "beta_J",
            "h_noise",
            "J_noise",
            "flux_offset",
            "max_wait",
            "default_wait",
        ):
            value = getattr(self, name)
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
    def solver_name(self) -> str:
        """The solver's name."""
        default = "_".join(["Emulated", self.topology, *map(str, self.shape)])
        return default if self.name is None else self.name
