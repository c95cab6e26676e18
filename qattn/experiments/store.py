"""The folder of experiments: a run folder for each training, which experiments may share."""

import json
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from qattn._atomic import write_atomically
from qattn.compare.page import cpu, versions
from qattn.experiments.experiment import Training
from qattn.experiments.measures import measure, measure_file
from qattn.training import Interrupted, RunFolder, train


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

    def is_measured(self, training: Training) -> bool:
        """Whether it was trained to its end, and all that it asks for was measured."""
        run = self.run(training)
        return self.is_done(training) and all(
            measure_file(run, name).is_file() for name in training.measures
        )

    def failure_file(self, training: Training) -> Path:
        """Where the traceback of the error stands that ended the training, if one did."""
        return self.run(training).path / "failure.txt"

    def check(self, training: Training) -> None:
        """Check that what is in the training's folder is of its settings.

        Raises:
            ValueError: Its config.toml says otherwise.
        """
        run = self.run(training)
        if not run.config_file.is_file():
            return
        found, asked = run.read_config(), training.config
        for name in sorted({*Training("", "", {}, found).settings, *training.settings} - {"data"}):
            if getattr(found, name) != getattr(asked, name):
                raise ValueError(
                    f"Its {run.config_file.name} must have {name} = {getattr(asked, name)}, but "
                    f"says {getattr(found, name)}. Move '{run.path}' away, and the training starts "
                    f"anew."
                )

    def train(
        self,
        training: Training,
        *,
        stop: Callable[[], bool] | None = None,
        quiet: bool = False,
    ) -> dict[str, Any]:
        """Train, or go on from the last checkpoint, or return what is done; the summary.

        What the training asks for beside its metrics is measured where the run's folder lacks it.

        A lock lets nobody else train in the folder at the same time: a second one waits, and finds
        what the first one made. It is the system's, which frees it when its holder dies.

        Args:
            training: What is trained.
            stop: Asked now and then: whether to stop.
            quiet: Show no progress.

        Raises:
            Interrupted: It was stopped, or cannot go on; see :func:`qattn.training.train`.
            ValueError: In its folder is another run, or one that is damaged.
            FloatingPointError: A loss is no longer finite.
        """
        run = self.run(training)
        run.path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(run, stop or (lambda: False)):
            self.failure_file(training).unlink(missing_ok=True)
            self.check(training)
            if not self.is_done(training):
                if not (run.config_file.is_file() or run.checkpoint_file.is_file()):
                    run.discard()  # what a process left that died as it began
                    run.create(training.config)
                with _in_the_log(run):
                    train(training.config, run.path, resume=True, stop=stop, quiet=quiet)
            measure(training.measures, training.config, run)
        summary: dict[str, Any] = json.loads(run.summary_file.read_text(encoding="utf-8"))
        return summary


@contextmanager
def _locked(run: RunFolder, stop: Callable[[], bool]) -> Iterator[None]:
    """Hold the lock of a run's folder, as soon as it is free."""
    lock = FileLock(f"{run.path}.lock")
    while True:
        try:
            lock.acquire(timeout=1)
            break
        except Timeout:
            if stop():
                what = f"Stopped waiting for whoever trains in '{run.path}'."
                raise Interrupted(what) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _in_the_log(run: RunFolder) -> Iterator[None]:
    """Write to provenance.json when and with what a session begins, and when it is at the end."""
    file = run.path / "provenance.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"sessions": []}
    session = {"started": _now()}
    known |= {
        "started": known.get("started", session["started"]),
        "host": platform.node(),
        "versions": versions() | {"CPU": cpu()},
        "sessions": [*known["sessions"], session],
    }
    _write_json(file, known)
    yield
    session["ended"] = _now()
    _write_json(file, known)


def _write_json(file: Path, content: Any) -> None:
    write_atomically(file, (json.dumps(content, indent=2) + "\n").encode())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
