"""Long runs on disk, one file a problem: found by what was run, checked when read."""

import contextlib
import hashlib
import os
import uuid
import warnings
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray

METHOD = 1
"""Version of the method and of the files; part of their names, so that others are not read."""

FOLDER_VARIABLE = "QATTN_REFERENCES"
"""Environment variable with the folder of the files, or ``off`` for none."""


@dataclass(frozen=True, eq=False)
class LongRun:
    """What a long run found out about one problem of n spins.

    Attributes:
        mean: ⟨s_j⟩.
        mean_error: Its standard error.
        pairs: ⟨s_j s_k⟩.
        pairs_error: Its standard error.
        gradient_h: Derivatives of g·⟨s⟩ in h.
        gradient_J: Derivatives of g·⟨s⟩ in the two entries of each J.
        betas: Inverse temperatures of the ladder, from 0 to 1.
        log_Z: ln Z at each.
        log_Z_error: Its standard error.
        energies: Energies that occurred, ascending.
        probabilities: Their probabilities.
        reads: Reads from all over the run, int8.
        round_trips: Mean number of round trips of a replica between the ends of the ladder.
        z2: The statistic of :func:`qattn.quality.equilibrium`, sets that started up against down.
        num_sweeps: Number of sweeps that were measured.
        in_equilibrium: Whether both suffice.
    """

    mean: NDArray[np.float64]
    mean_error: NDArray[np.float64]
    pairs: NDArray[np.float64]
    pairs_error: NDArray[np.float64]
    gradient_h: NDArray[np.float64]
    gradient_J: NDArray[np.float64]
    betas: NDArray[np.float64]
    log_Z: NDArray[np.float64]
    log_Z_error: NDArray[np.float64]
    energies: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    reads: NDArray[np.int8]
    round_trips: float
    z2: float
    num_sweeps: int
    in_equilibrium: bool


def file_of(*contents: object) -> Path | None:
    """Path of the file of a run, whether it exists or not; None where none are kept.

    Args:
        contents: Arrays, numbers and texts that the run depends on.
    """
    folder = os.environ.get(FOLDER_VARIABLE, "")
    if folder == "off":
        return None
    digest = hashlib.sha256()
    for content in contents:
        if isinstance(content, np.ndarray):
            digest.update(f"{content.dtype}{content.shape}".encode())
            digest.update(np.ascontiguousarray(content).tobytes())
        else:
            digest.update(repr(content).encode())
    home = Path(folder) if folder else platformdirs.user_cache_path("qattn") / "references"
    return home / f"{digest.hexdigest()[:32]}-v{METHOD}.npz"


def load(file: Path | None) -> LongRun | None:
    """The run of a file; None where there is none, with a warning if the file is damaged."""
    if file is None or not file.exists():
        return None
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        # Spins are a bit each.
        bits = np.unpackbits(arrays["reads"], axis=1, count=len(arrays["mean"]))
        arrays["reads"] = 2 * bits.astype(np.int8) - 1
        scalars = {name: a.item() if a.ndim == 0 else a for name, a in arrays.items()}
        return LongRun(**scalars)
    except Exception as error:  # whatever zip files, deflate and npy raise
        warnings.warn(f"{file} is damaged ({error}) and is computed anew.", stacklevel=2)
        return None


def save(run: LongRun, file: Path | None) -> None:
    """Write the file of a run; a reader sees the whole file or none.

    A folder that cannot be written to costs a warning and no result.
    """
    if file is None:
        return
    arrays = {field.name: np.asarray(getattr(run, field.name)) for field in fields(run)}
    arrays["reads"] = np.packbits(run.reads > 0, axis=1)
    # A temporary name of its own for every writer: processes share the folder.
    partial = file.with_name(f".{uuid.uuid4().hex}.npz")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(partial, **arrays)  # type: ignore[arg-type]
        partial.replace(file)
    except OSError as error:
        warnings.warn(f"A reference could not be kept for the next time: {error}.", stacklevel=2)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
