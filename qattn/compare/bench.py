"""Problems with their reference and the noise floors computed for them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from qattn.compare.results import CompareSettings
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples
from qattn.problems import with_strength
from qattn.quality import Floor, Quality, judge, noise_floor, reference_of
from qattn.quality.split import split_by_problem

FAILURES = (ValueError, RuntimeError, OSError, MemoryError, NotImplementedError)
"""Exceptions of a sampler that do not end the comparison of the others."""

Progress = Callable[[str], None]


@dataclass(eq=False)
class Bench:
    """Problems with their reference.

    Attributes:
        batch: The problems.
        settings: How samplers are compared.
        progress: Called with a line before each part of the work.
        reference: What reads are compared with.
    """

    batch: IsingBatch
    settings: CompareSettings
    progress: Progress

    def __post_init__(self) -> None:
        self.reference = reference_of(
            self.batch,
            seed=self.settings.seed,
            tempering_sweeps=self.settings.tempering_sweeps,
            progress=self.progress,
        )
        self._floors: dict[bytes, Floor] = {}

    def floor(self, counts: torch.Tensor) -> Floor:
        """The noise floor for these numbers of reads of the problems; computed once, then kept."""
        key = counts.numpy().tobytes()
        if key not in self._floors:
            self._floors[key] = noise_floor(
                self.reference,
                counts,
                repeats=self.settings.floor_repeats,
                seed=self.settings.seed + 1,
                estimator=self.settings.estimator,
                progress=self.progress,
            )
        return self._floors[key]

    def with_strength(self, strength: float) -> "Bench":
        """The same problems at `strength` times their β."""
        if strength == 1.0:
            return self
        return Bench(with_strength(self.batch, strength), self.settings, self.progress)

    def judge(self, samples: SpinSamples) -> Quality:
        """The quality of reads of the problems."""
        return judge(
            samples,
            self.batch,
            reference=self.reference,
            floor=self.floor(split_by_problem(samples, self.batch).counts()[:, 0]),
            estimator=self.settings.estimator,
        )


def reason(error: BaseException) -> str:
    """Why a sampler failed, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
