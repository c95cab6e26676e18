"""The folder of experiments: a run folder for each training, which experiments may share."""

import json
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from qattn._atomic import write_atomically
from qattn.compare.page import versions
from qattn.experiments.experiment import Training
from qattn.experiments.measures import measure
from qattn.training import RunFolder, train


class Store:
    """Trainings under ROOT/runs, and results of experiments beside them under ROOT/NAME."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, training: Training) -> RunFolder:
        """The run folder of a training."""
        return RunFolder(self.root / "runs" / training.name)

    def is_done(self, training: Training) -> bool:
        """Whether it was trained to its end."""
        return self.run(training).summary_file.is_file()

    def train(self, training: Training) -> dict[str, Any]:
        """Train, or go on from the last checkpoint, or return what is done; the summary.

        What the training asks for beside its metrics is measured where the run's folder lacks it.

        A lock lets nobody else train in the folder at the same time: a second one waits, and finds
        what the first one made.
        """
        run = self.run(training)
        run.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{run.path}.lock"):
            if not self.is_done(training):
                started = datetime.now(UTC).isoformat(timespec="seconds")
                train(training.config, run.path, resume=run.config_file.is_file())
                provenance = {"started": started, "host": platform.node(), "versions": versions()}
                text = json.dumps(provenance, indent=2) + "\n"
                write_atomically(run.path / "provenance.json", text.encode())
            measure(training.measures, training.config, run)
        summary: dict[str, Any] = json.loads(run.summary_file.read_text(encoding="utf-8"))
        return summary
