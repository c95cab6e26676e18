"""An emulated QPU for the duration of a training."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import tomli_w

from qattn.training.config import TrainConfig

if TYPE_CHECKING:
    from qattn.hardware.emulator import EmulatedQPU

SHAPE = (6, 4)
"""Size of the emulated Zephyr graph."""


@contextmanager
def on_an_emulated_qpu(config: TrainConfig, step: int = 0, rank: int = 0) -> Iterator[TrainConfig]:
    """The settings, with credentials of an emulator if they ask for one, which ends afterwards.

    It is a perfect Zephyr Z6, whose reads are Boltzmann distributed with β_h = 10.2 and β_J = 11.2;
    with the ghost spin, where fields are couplings, both betas are 11.2. A run that goes on gets
    other reads than an undisturbed one would have had, as it would from a QPU.

    Args:
        config: Settings of the training.
        step: The step at which it begins.
        rank: Which of several processes it is for: each has a processor with noise of its own.
    """
    if not config.emulate_qpu:
        yield config
        return
    from qattn.hardware.emulator import EmulatedQPU

    seed = config.seed + 10**6 * step + 10**12 * rank  # reads that it has not had
    with TemporaryDirectory() as private, EmulatedQPU(shape=SHAPE, seed=seed) as qpu:
        found: Any = {"credentials": str(write_credentials(Path(private), qpu))}
        yield replace(config, **found)


def write_credentials(private: Path, qpu: "EmulatedQPU") -> Path:
    """The credentials.toml that leads to an emulator, in a folder that only its owner can read."""
    file = private / "credentials.toml"
    file.touch(mode=0o600)
    file.write_text(tomli_w.dumps({"dwave": qpu.client_options}), encoding="utf-8")
    return file
