"""What a Dask worker does: see whether it shares the folder, and train."""

import contextlib
import dataclasses
import platform
import signal
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from qattn.experiments.experiment import Training
from qattn.experiments.store import Store
from qattn.training import Interrupted, TrainConfig

ONE_AT_A_TIME = threading.Lock()
"""Held while this process trains: PyTorch's generator of random numbers is the process's."""


def dask_setup(worker: Any) -> None:
    """Begin a worker of this machine's own cluster: it does not hear a Ctrl-C.

    Terminals send it to all processes; the main one alone decides what it means.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Folder(NamedTuple):
    """The experiments' folder, and the file by which whoever sees it knows that it is the same."""

    root: str
    marker: str

    def check(self) -> None:
        """Check that it is here.

        Raises:
            FileNotFoundError: It is not, or is another one.
        """
        if not Path(self.root, self.marker).is_file():
            raise FileNotFoundError(
                f"A worker on {platform.node()} does not see the folder '{self.root}' of this "
                f"process: put --out on storage that is at the same path on every machine."
            )


class Outcome(NamedTuple):
    """How a task ended.

    Attributes:
        error: What kept the training from its end in a line, or "".
        shared: Whether the worker sees the folder.
    """

    error: str = ""
    shared: bool = True


def plain(training: Training) -> dict[str, Any]:
    """A training as plain data."""
    return dataclasses.asdict(training)


def train_one(training: dict[str, Any], name: str, folder: Folder) -> Outcome:
    """Train what :func:`plain` made, in this worker's process; its errors are returned.

    It depends on nothing but its arguments and the training's run folder: whichever worker is
    asked goes on from the last checkpoint there, or finds the run at its end.

    Args:
        training: What is trained.
        name: The training's name where it was asked for.
        folder: The experiments' folder.

    Raises:
        distributed.Reschedule: It stopped for its worker, which is closing.
    """
    from distributed import Reschedule

    what = Training(**training | {"config": TrainConfig(**training["config"])})
    store = Store(Path(folder.root))
    try:
        folder.check()
    except FileNotFoundError as error:
        return Outcome(str(error), shared=False)
    stop = unwanted()
    try:
        if what.name != name:
            raise ValueError(
                f"The worker on {platform.node()} has another text at '{what.config.data}', or "
                f"another version of qattn, than the command: give both the same."
            )
        with ONE_AT_A_TIME:
            store.train(what, stop=stop, quiet=True)
    except Interrupted as reason:
        if stop():  # another worker goes on, if anybody wants it
            raise Reschedule from reason
        return Outcome(str(reason))  # the disk is full, say
    except Exception as error:
        with contextlib.suppress(OSError):
            store.failure_file(what).write_text(traceback.format_exc(), encoding="utf-8")
        return Outcome(f"{type(error).__name__}: {error}")
    return Outcome()


def unwanted() -> Callable[[], bool]:
    """A question that a task asks its worker now and then: is nobody waiting for it any more?

    Its client has cancelled it or has gone, or the worker has lost its scheduler and is closing.
    """
    from distributed import Status, get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def asked() -> bool:
        task = worker.state.tasks.get(key)
        running = worker.status in (Status.running, Status.paused)
        return not running or task is None or task.state == "cancelled"

    return asked
