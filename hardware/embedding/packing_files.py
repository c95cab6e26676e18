"""Packings on disk: found by the working graph, checked when read, written as a whole or not."""

import contextlib
import re
import uuid
import zipfile
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray

from qattn.hardware.embedding.packing import Packing
from qattn.hardware.embedding.pattern import Pattern
from qattn.hardware.embedding.working_graph import WorkingGraph

FORMAT = 2
"""Version of the files; part of their names, so that another version's are not read."""

UNREADABLE = (OSError, EOFError, KeyError, ValueError, TypeError, zipfile.BadZipFile)
"""What a damaged file may raise."""


def packing_file(graph: WorkingGraph, pattern: Pattern, folder: Path | None = None) -> Path:
    """Path of the file for a graph's packing, whether it exists or not.

    Args:
        graph: The working graph.
        pattern: What its slots couple.
        folder: The folder; None means ``packings`` in the user's cache folder of qattn.
    """
    folder = Path(platformdirs.user_cache_dir("qattn")) / "packings" if folder is None else folder
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", graph.graph_id)[:60]
    return folder / f"{name}-{graph.digest[:16]}-{pattern.name}-v{FORMAT}.npz"


def packings_of_kin(graph: WorkingGraph, pattern: Pattern, folder: Path | None) -> list[Packing]:
    """Packings of other working graphs of the same topology and shape; unreadable files not.

    Args:
        graph: The working graph.
        pattern: What their slots couple.
        folder: As in :func:`packing_file`.
    """
    own = packing_file(graph, pattern, folder)
    found = []
    for file in sorted(own.parent.glob(f"*-{pattern.name}-v{FORMAT}.npz")):
        if file == own:
            continue
        with contextlib.suppress(*UNREADABLE), file.open("rb") as stream:
            stored = np.load(stream, allow_pickle=False)
            # The graph first: arrays are read, and a packing is checked, when they are needed.
            if (str(stored["topology"]), tuple(stored["shape"])) == (graph.topology, graph.shape):
                found.append(Packing.from_arrays(stored))
    return found


def save_packing(packing: Packing, file: Path) -> None:
    """Write a packing; a reader sees the whole file or none.

    Raises:
        OSError: The file cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    # A temporary name of its own for every writer: processes that share the cache may pack the
    # same graph at the same time.
    partial = file.with_name(f".packing-{uuid.uuid4().hex}.npz")
    try:
        np.savez(partial, **packing.to_arrays())  # type: ignore[arg-type]
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def load_packing(file: Path, graph: WorkingGraph, pattern: Pattern) -> Packing:
    """Read a packing and check it against the graph.

    Raises:
        ValueError: The file is damaged, or holds a packing of another graph or pattern.
    """
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            packing = Packing.from_arrays(stored)
        if packing.num_slots == 0:
            raise ValueError("it has no slots")
    except UNREADABLE as error:
        raise ValueError(f"{file} is not a packing ({error}).") from error
    origin = packing.graph.digest, packing.graph.graph_id, packing.num_spins
    expected = graph.digest, graph.graph_id, pattern.num_spins
    same_pairs = _bytes(packing.pairs) == _bytes(pattern.pairs)
    if origin != expected or not same_pairs:
        raise ValueError(f"{file} is not the packing of {pattern.name} for {graph!r}.")
    return packing


def _bytes(pairs: NDArray[np.int64] | None) -> bytes | None:
    return None if pairs is None else pairs.tobytes()
