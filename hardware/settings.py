"""Settings of a QPU's anneals, and first-order theory's betas for them."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qattn.field_encoding import FieldEncoding

CHOSEN_BY = ("annealing_time", "field_encoding", "chain_strength")
"""Settings by which a calibration's points and a journal's calls are chosen."""

PAUSES = ("readout_thermalization", "reduce_intersample_correlation")
"""Settings that are D-Wave's parameters of the same names."""

OUT_OF_RANGE = ("error", "clip")
"""What happens to fields and couplings that the device cannot hold."""


@dataclass(frozen=True)
class QPUSettings:
    """Settings that reads depend on.

    Args:
        annealing_time: Duration of an anneal in ns.
        field_encoding: "ghost", "ancilla" or "direct"; the first two use fast anneals, the last
            standard ones.
        chain_strength: Coupling within a chain, in the device's units, positive.
        betas: (β_h, β_J) of the device: what is programmed is βh/β_h and βJ/β_J. With "ghost" and
            "ancilla", β_h is that of the couplings which carry the fields.
        spin_reversal_transforms: Submissions among which the reads of a call are divided, each
            under a gauge of its own.
        out_of_range: "error" or "clip".
        readout_thermalization: Pause in µs before each read is read out; None means the solver's
            default.
        reduce_intersample_correlation: Whether a pause between reads lets the qubits forget the
            read before.

    Raises:
        ValueError: An argument has another value.
    """

    annealing_time: float
    field_encoding: str = "ghost"
    chain_strength: float = 2.0
    betas: tuple[float, float] = (1.0, 1.0)
    spin_reversal_transforms: int = 1
    out_of_range: str = "error"
    readout_thermalization: float | None = None
    reduce_intersample_correlation: bool = False

    def __post_init__(self) -> None:
        encoding = FieldEncoding.parse(self.field_encoding)
        object.__setattr__(self, "field_encoding", encoding.value)  # a plain string, for files
        if self.out_of_range not in OUT_OF_RANGE:
            raise ValueError(
                f"Argument `out_of_range` must be one of {', '.join(OUT_OF_RANGE)}, "
                f"but is {self.out_of_range!r}."
            )
        for name in ("annealing_time", "chain_strength"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"Argument `{name}` must be positive and finite, but is {getattr(self, name)}."
                )
        if not all(0 < beta < math.inf for beta in self.betas):
            raise ValueError(
                f"Argument `betas` must be two positive numbers (β_h, β_J), but is {self.betas}."
            )
        pause = self.readout_thermalization
        if pause is not None and not 0 <= pause < math.inf:
            raise ValueError(
                f"Argument `readout_thermalization` must not be negative, but is {pause}."
            )
        if self.spin_reversal_transforms < 1:
            raise ValueError(
                f"Argument `spin_reversal_transforms` must be positive, "
                f"but is {self.spin_reversal_transforms}."
            )

    @property
    def encoding(self) -> FieldEncoding:
        """How fields are programmed."""
        return FieldEncoding(self.field_encoding)

    @property
    def timing_params(self) -> dict[str, Any]:
        """Those of a job's parameters that take time, but for the number of reads; in µs."""
        params: dict[str, Any] = {"annealing_time": self.annealing_time * 1e-3}
        return params | self._pauses()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON or TOML; without pauses where none is asked for."""
        values = {name: value for name, value in asdict(self).items() if name not in PAUSES}
        return values | self._pauses() | {"betas": list(self.betas)}

    def _pauses(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in PAUSES}
        return {name: value for name, value in values.items() if value not in (None, False)}


def theory_betas(
    schedule: str | Path, annealing_time: float, field_encoding: str
) -> tuple[float, float]:
    """First-order theory's (β_h, β_J) for a published schedule, as the fields are encoded.

    Raises:
        FileNotFoundError: There is no such file.
        CannotSample: The betas are not positive.
        ValueError: The encoding is unknown, or the file is not a schedule.
    """
    from qattn.simulators.effective_beta import effective_betas
    from qattn.simulators.schedules import get_schedule

    encoding = FieldEncoding.parse(field_encoding)
    theory = effective_betas(get_schedule(schedule, annealing_time, sheet=encoding.sheet))
    return encoding.betas(theory, f"Schedule '{schedule}' at {annealing_time:g} ns")


def check_offered(settings: QPUSettings, solver: str, properties: Mapping[str, Any]) -> None:
    """Check that a device offers these anneals and pauses, and for so long.

    Raises:
        ValueError: It does not.
    """
    fast = settings.encoding.fast
    name = "fast_anneal_time_range" if fast else "annealing_time_range"
    if name not in properties:
        kind = "fast" if fast else "standard"
        raise ValueError(
            f"{solver} does not offer {kind} anneals: choose another solver"
            + (', or field_encoding="direct".' if fast else ".")
        )
    shortest, longest = (1e3 * time for time in properties[name])
    if not shortest * (1 - 1e-9) <= settings.annealing_time <= longest * (1 + 1e-9):
        raise ValueError(
            f"Argument `annealing_time` must be between {shortest:g} and {longest:g} ns on "
            f"{solver} with field_encoding={settings.field_encoding!r}, "
            f"but is {settings.annealing_time:g}."
        )
    for name, value in settings.timing_params.items():
        if name in PAUSES and name not in properties["parameters"]:
            raise ValueError(f"{solver} has no parameter `{name}`: leave it out.")
        low, high = properties.get(f"{name}_range", (-math.inf, math.inf))
        if name == "readout_thermalization" and not low <= value <= high:
            raise ValueError(
                f"Argument `{name}` must be between {low:g} and {high:g} µs on {solver}, "
                f"but is {value:g}."
            )
