"""What is measured of trained models beside the metrics, and kept in a run's folder."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from qattn._atomic import write_atomically
from qattn.experiments.measures.composite import composite
from qattn.experiments.measures.couplings import couplings
from qattn.experiments.measures.criticality import criticality
from qattn.experiments.measures.dominance import dominance
from qattn.experiments.measures.outputs import outputs
from qattn.experiments.measures.regimes import regimes
from qattn.training.config import TrainConfig
from qattn.training.environment import choose_threads, using_threads
from qattn.training.folder import RunFolder

__all__ = [
    "MEASURES",
    "composite",
    "couplings",
    "criticality",
    "dominance",
    "measure",
    "measure_file",
    "outputs",
    "regimes",
]

MEASURES: dict[str, Callable[[TrainConfig, RunFolder], dict[str, Any]]] = {
    "composite": composite,
    "couplings": couplings,
    "criticality": criticality,
    "dominance": dominance,
    "outputs": outputs,
    "regimes": regimes,
}
"""The measures by name: each takes a run's settings and its folder, and returns what JSON can say.

Numbers of a single seed stand in lists over the members of the ensemble, in the order of seeds.
"""


def measure_file(run: RunFolder, name: str) -> Path:
    """Where a run's folder keeps a measure."""
    return run.path / "measures" / f"{name}.json"


def measure(names: Iterable[str], config: TrainConfig, run: RunFolder) -> None:
    """Take the measures that a run's folder lacks, and write each to its file."""
    for name in names:
        file = measure_file(run, name)
        if not file.is_file():
            with using_threads(config.threads or choose_threads(config)):
                found = MEASURES[name](config, run)
            file.parent.mkdir(exist_ok=True)
            write_atomically(file, f"{json.dumps(found, allow_nan=False)}\n".encode())
