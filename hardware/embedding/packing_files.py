"""Packings on disk: found by the working graph, checked when read, written as a whole or not."""

import os
import re
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import platformdirs

from qattn.hardware.embedding.packing import Packing
from qattn.hardware.embedding.working_graph import WorkingGraph

FORMAT = 1
"""Version of the files; part of their names, so that another version's are not read."""


def packing_file(
    graph: WorkingGraph, num_spins: int, uniform: bool, folder: Path | None = None
) -> Path:
    """Where the packing of a graph is kept.

    Args:
        graph: The working graph.
        num_spins: Spins n of its cliques.
        uniform: Whether all chains of a slot must have one length.
        folder: The folder; None for ``packings`` in the user's cache folder of qattn.
    """
    folder = Path(platformdirs.user_cache_dir("qattn")) / "packings" if folder is None else folder
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", graph.graph_id)[:60]
    kind = "-uniform" if uniform else ""
    return folder / f"{name}-{graph.digest[:16]}-K{num_spins}{kind}-v{FORMAT}.npz"


def save_packing(packing: Packing, file: Path, uniform: bool) -> None:
    """Write a packing; a reader sees the whole file or none.

    Raises:
        OSError: The file cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=".packing-", suffix=".npz")
    try:
        with os.fdopen(handle, "wb") as stream:
            np.savez(
                stream,
                format=np.array(FORMAT),
                digest=np.array(packing.graph.digest),
                uniform=np.array(uniform),
                chains=packing.chains,
            )
        os.replace(temporary, file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load_packing(file: Path, graph: WorkingGraph, num_spins: int, uniform: bool) -> Packing:
    """Read a packing and check it against the graph.

    Raises:
        ValueError: The file is damaged, or holds a packing of another graph or kind.
    """
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            found = int(stored["format"]), str(stored["digest"]), bool(stored["uniform"])
            chains = stored["chains"]
    except (OSError, EOFError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file} is not a packing ({error}).") from error
    if found != (FORMAT, graph.digest, uniform) or chains.ndim != 3 or len(chains[0]) != num_spins:
        raise ValueError(f"{file} is not the packing of K{num_spins} for {graph!r}.")
    if chains.dtype != np.int32:
        raise ValueError(f"{file} must hold 32-bit labels, but holds {chains.dtype}.")
    try:
        return Packing(graph, chains)
    except ValueError as error:
        raise ValueError(f"{file} does not hold a packing: {error}") from error
