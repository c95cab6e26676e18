"""Problems on a bench: with their reference, and the noise floors that were made for them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from qattn.compare.results import CompareSettings
from qattn.ising import IsingBatch
from qattn.quality import Floor, Quality, Reference, judge, noise_floor
from qattn.quality.split import reads_apart, total_weights
from qattn.samples import SpinSamples

FAILURES = (ValueError, RuntimeError, OSError, MemoryError, NotImplementedError)
"""What a sampler may raise without ending the comparison of the others."""

Progress = Callable[[str], None]


@dataclass(eq=False)
class Bench:
    """Problems with their reference.

    Attributes:
        batch: The problems.
        reference: What reads are held against.
        settings: How samplers are compared.
        progress: Is told what is being done.
    """

    batch: IsingBatch
    reference: Reference
    settings: CompareSettings
    progress: Progress

    def __post_init__(self) -> None:
        self._floors: dict[bytes, Floor] = {}

    def floor(self, counts: torch.Tensor) -> Floor:
        """The floor of so many reads of each problem."""
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

    def judge(self, samples: SpinSamples) -> Quality:
        """How good reads of the problems are."""
        return judge(
            samples,
            self.batch,
            reference=self.reference,
            floor=self.floor(total_weights(reads_apart(samples, self.batch))),
            estimator=self.settings.estimator,
        )


def reason(error: BaseException) -> str:
    """Why a sampler failed, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
