"""Flux biases that cancel the offsets of a packing's chains: the part of a calibration's file."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qattn.hardware.embedding.packing import Packing


@dataclass(frozen=True)
class FluxShim:
    """Flux biases at which the chains of a packing are not magnetized, and how they were found.

    Attributes:
        packing: Digest of the packing, and so of its working graph.
        num_spins: Spins n of its slots.
        chain_strength: Coupling within chains at which they were measured.
        annealing_time: Duration of the anneals, ns.
        qubits: Labels of the qubits.
        flux_biases: Flux bias of each, in Φ0, as D-Wave's parameter ``flux_biases`` takes it.
        before: Root mean square of the chains' magnetizations without flux biases.
        after: The same with them, of new reads.
        shot_noise: The same of independent reads of chains that are not magnetized.
        num_reads: Reads of each submission.
        submissions: Number of submissions.
        access_time: QPU access time of all of them, seconds.

    Raises:
        ValueError: There is not one finite flux bias for each qubit.
    """

    packing: str
    num_spins: int
    chain_strength: float
    annealing_time: float
    qubits: tuple[int, ...]
    flux_biases: tuple[float, ...]
    before: float
    after: float
    shot_noise: float
    num_reads: int
    submissions: int
    access_time: float

    def __post_init__(self) -> None:
        if len(self.qubits) != len(self.flux_biases) or not all(
            map(math.isfinite, self.flux_biases)
        ):
            raise ValueError(
                f"Argument `flux_biases` must hold a finite number for each of "
                f"{len(self.qubits)} qubits, but does not."
            )

    @classmethod
    def from_values(cls, values: Any, file: str | Path) -> "FluxShim":
        """The shim with the plain values of a calibration's file.

        Raises:
            ValueError: A value is missing, unknown or wrong; `file` is named.
        """
        try:
            lists = {name: tuple(values[name]) for name in ("qubits", "flux_biases")}
            return cls(**values | lists)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"Argument `calibration` must be a calibration of a QPU, but the shim of {file} is "
                f"none ({error}): run `qattn calibrate --sampler dwave --shim`."
            ) from None

    def suits(self, packing: Packing, chain_strength: float) -> bool:
        """Whether it was measured on these chains: same qubits, same coupling."""
        return self.packing == packing.digest and math.isclose(self.chain_strength, chain_strength)

    @property
    def digest(self) -> str:
        """Name of the biases: 12 hexadecimal digits."""
        content = repr((self.packing, self.qubits, self.flux_biases)).encode()
        return hashlib.sha256(content).hexdigest()[:12]

    def describe(self) -> str:
        """One line on what it achieved and cost."""
        return (
            f"rms magnetization of {self.num_spins}-spin cliques' chains {self.before:.4f} before, "
            f"{self.after:.4f} after, shot noise {self.shot_noise:.4f}; {self.submissions} "
            f"submissions of {self.num_reads} reads, {self.access_time:.3g} s of QPU time"
        )
