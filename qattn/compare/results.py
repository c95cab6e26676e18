"""Settings and results of a comparison."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qattn.ising.samples import SpinSamples
from qattn.quality import Floor, Quality, Reference
from qattn.quality.tempered import TEMPERING_SWEEPS


@dataclass(frozen=True)
class CompareSettings:
    """How samplers are compared.

    Attributes:
        num_reads: Reads of each problem.
        seed: Seed of all reads, those of the floor too.
        refine_sweeps: Gibbs sweeps after which each sampler's reads are judged again; 0 means not.
        annealing_times: Times in ns at which samplers that have one are compared.
        reads_sweep: Numbers of reads at which all are compared.
        strengths: Factors of β at which all are compared.
        estimator: How reads become gradients: callen, moment or score.
        floor_repeats: How often independent exact reads are drawn for a floor.
        tempering_sweeps: Sweeps of the long run where there are no exact values.
    """

    num_reads: int = 1000
    seed: int = 0
    refine_sweeps: int = 0
    annealing_times: tuple[float, ...] = ()
    reads_sweep: tuple[int, ...] = ()
    strengths: tuple[float, ...] = ()
    estimator: str = "callen"
    floor_repeats: int = 10
    tempering_sweeps: int = TEMPERING_SWEEPS


def shown_label(label: str, facts: Mapping[str, Any]) -> str:
    """A sampler's label in every table, figure and file, given what it reported about its device.

    >>> shown_label("dwave", {"emulated": True})
    'dwave (EMULATED)'
    """
    return label + (" (EMULATED)" if facts.get("emulated") else "")


@dataclass(frozen=True, eq=False)
class SamplerResult:
    """One sampler on one set of problems.

    Attributes:
        label: Its name, which says so if the device was an emulator (:func:`shown_label`).
        samples: Its reads, split by problem; None if it failed.
        quality: How good they are; None if it failed.
        error: Why it failed.
        seconds: Time of the call of ``sample``; None for reads that were refined from others.
        info: What the sampler reported: settings, device, time.
        warnings: Warnings that it gave.
    """

    label: str
    samples: SpinSamples | None
    quality: Quality | None
    error: str = ""
    seconds: float | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def qpu_seconds(self) -> float | None:
        """QPU access time of the reads, where the sampler reports it."""
        value = self.info.get("qpu_access_seconds")
        return None if value is None else float(value)

    def per_effective_read(self, seconds: float | None) -> float | None:
        """Seconds for each effective read (N/τ) of a problem."""
        if seconds is None or self.quality is None:
            return None
        return seconds / (self.quality.effective_reads * len(self.quality.num_reads))


@dataclass(frozen=True, eq=False)
class SweepPoint:
    """A sampler at one value of what is varied."""

    value: float
    quality: Quality | None
    error: str = ""


Sweep = dict[str, list[SweepPoint]]
"""Points by the labels of samplers."""


@dataclass(frozen=True, eq=False)
class SetResult:
    """All samplers on one set of problems.

    Attributes:
        name: The set's name.
        reference: What reads are compared with.
        floor: Figures of the same number of independent exact reads.
        results: One per sampler.
        sweeps: By what is varied: "annealing_time", "num_reads", "strength".
    """

    name: str
    reference: Reference
    floor: Floor
    results: list[SamplerResult]
    sweeps: dict[str, Sweep]

    @property
    def judged(self) -> dict[str, Quality]:
        """Quality of the reads of every sampler that did not fail, by its label."""
        return {r.label: r.quality for r in self.results if r.quality is not None}


@dataclass(frozen=True, eq=False)
class Comparison:
    """A comparison of samplers.

    Attributes:
        settings: How samplers were compared.
        sets: Results on each set of problems.
    """

    settings: CompareSettings
    sets: list[SetResult]

    def to_dict(self) -> dict[str, Any]:
        """The part that depends on problems, reads and seeds alone: equal reads, equal digits."""
        return {
            "settings": vars(self.settings),
            "sets": [_set(set_result) for set_result in self.sets],
        }

    def context(self) -> dict[str, Any]:
        """The rest: times, devices, the settings that samplers reported."""
        return {
            set_result.name: {
                result.label: {
                    "seconds": result.seconds,
                    "qpu_access_seconds": result.qpu_seconds,
                    "seconds_per_effective_read": result.per_effective_read(result.seconds),
                    "qpu_seconds_per_effective_read": result.per_effective_read(result.qpu_seconds),
                    "info": plain_info(result.info),
                    "warnings": list(result.warnings),
                }
                for result in set_result.results
            }
            for set_result in self.sets
        }


def plain_info(info: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that are numbers, words or short lists of them."""
    plain: dict[str, Any] = {}
    for key, value in info.items():
        if isinstance(value, (tuple, list)) and len(value) <= 8:
            items = [x for x in value if isinstance(x, (str, int, float))]
            if len(items) == len(value):
                plain[key] = items
        elif value is None or isinstance(value, (str, int)):
            plain[key] = value
        elif isinstance(value, float):
            plain[key] = value if math.isfinite(value) else None
    return plain


def _set(set_result: SetResult) -> dict[str, Any]:
    return {
        "problems": set_result.name,
        "num_problems": set_result.reference.num_problems,
        "num_spins": set_result.reference.batch.num_spins,
        "reference": set_result.reference.kind,
        "is_exact": set_result.reference.is_exact,
        "not_in_equilibrium": list(set_result.reference.not_in_equilibrium),
        "samplers": {
            result.label: {"error": result.error}
            if result.quality is None
            else result.quality.to_dict()
            for result in set_result.results
        },
        "sweeps": {
            name: {
                label: [
                    {"value": point.value}
                    | ({"error": point.error} if point.quality is None else _brief(point.quality))
                    for point in points
                ]
                for label, points in sweep.items()
            }
            for name, sweep in set_result.sweeps.items()
        },
    }


def _brief(quality: Quality) -> dict[str, Any]:
    values = quality.to_dict()
    return {key: values[key] for key in ("scores", "betas", "states_resolved")}
