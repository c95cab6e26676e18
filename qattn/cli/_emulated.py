"""An emulated QPU for the duration of one command, calibrated as a real one would be."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from qattn.backends.spec import SamplerSpec
from qattn.training.emulated import write_credentials

ANNEALING_TIME = 5.0
"""Annealing time in ns for which the emulator's default temperatures hold (first-order theory for
the fast schedule of Advantage2_system4)."""


@contextmanager
def on_an_emulated_qpu(
    specs: Sequence[SamplerSpec], folder: Path, *, seed: int, device: str | None = None
) -> Iterator[list[SamplerSpec]]:
    """The samplers with every "dwave" on an emulator that runs as long as this context.

    A sampler without betas of its own is given a calibration, which is measured first and kept in
    the folder. The emulator is a perfect Zephyr Z6, or the real processor that `device` names.
    """
    from qattn.hardware.emulator import EmulatedQPU

    size = {"shape": (6, 4)} if device is None else {"device": device}
    with TemporaryDirectory() as private, EmulatedQPU(seed=seed, **size) as qpu:
        credentials = write_credentials(Path(private), qpu)  # a private folder: mode 0700
        emulated: list[SamplerSpec] = []
        for spec in specs:
            if spec.name == "dwave":
                spec = replace(spec, options=spec.options | {"credentials": str(credentials)})
                if not spec.options.keys() & {"betas", "calibration"}:
                    calibration = _calibrated(spec, folder, seed)
                    spec = spec.with_options(calibration=str(calibration), annealing_time=None)
            emulated.append(spec)
        yield emulated


def _calibrated(spec: SamplerSpec, folder: Path, seed: int) -> Path:
    """The calibration file of a sampler's field encoding and annealing time, measured if new."""
    from qattn.cli.calibration.qpu import qpu_outcome
    from qattn.problems import synthetic

    encoding = spec.options.get("field_encoding", "ghost")
    annealing_time = spec.options.get("annealing_time", ANNEALING_TIME)
    file = folder / f"calibration-{encoding}-{annealing_time:g}ns.toml"
    if file.exists():
        return file
    folder.mkdir(parents=True, exist_ok=True)
    outcome = qpu_outcome(
        synthetic(100, 8, seed=seed),
        described="100 problems of 8 spins, fields 1, couplings 0.3",
        seed=seed,
        annealing_times=(annealing_time,),
        field_encodings=(encoding,),
        quiet=True,
        credentials=spec.options["credentials"],
        journal=folder / f"{file.stem}-journal",
    )
    outcome.calibration.save(file)
    return file
