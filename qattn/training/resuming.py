"""Stopping a run and going on with it: signals, what is said, and what may be changed."""

import dataclasses
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from qattn.training.config import TrainConfig
from qattn.training.tasks import shakespeare


class Interrupted(Exception):  # noqa: N818 - not an error: the run can go on
    """The run was asked to stop, or something kept it from going on.

    The message says whether a checkpoint was written. The reason is the ``__cause__``, a
    :class:`~qattn.backends.BackendStopped` of a sampler or an OSError; None if the run was asked.
    """


def resume_command(
    folder: Path, flags: str = "", *, command: str = "train", processes: int = 1
) -> str:
    """The command that continues a run in as many processes as it was in."""
    start = "qattn" if processes == 1 else f"torchrun --nproc-per-node {processes} -m qattn"
    return f"{start} {command} --resume {shlex.quote(str(folder))} {flags}".rstrip()


def check_processes(state: dict[str, Any] | None, processes: int, folder: Path) -> None:
    """Check that a run goes on in as many processes as it was trained in.

    Raises:
        ValueError: There are more, or fewer.
    """
    before = processes if state is None else state["environment"].get("processes", 1)
    if before != processes:
        raise ValueError(
            f"Cannot resume '{folder}' with another number of processes, {processes} instead of "
            f"{before}: each has its own random numbers. Continue with: "
            f"{resume_command(folder, processes=before)}"
        )


def check_resumes(started: TrainConfig, config: TrainConfig, folder: Path) -> None:
    """Check that a run can go on with these settings: what is computed must stay as it was.

    Raises:
        ValueError: A setting that may not change is another one.
    """
    may_change = [f.name for f in dataclasses.fields(config) if f.metadata["may_change"]]
    for field in dataclasses.fields(config):
        value, old = getattr(config, field.name), getattr(started, field.name)
        grows = field.name == "steps" and value > old and config.lr_decay == "none"
        moved = field.name == "data" and shakespeare.same_text(started.data_path, config.data_path)
        if value != old and field.name not in may_change and not (grows or moved):
            raise ValueError(
                f"Cannot resume '{folder}' with {field.name} = {value}, from a flag or its "
                f"config.toml: it was started with {field.name} = {old}. Only --steps may grow "
                f"(without lr_decay), and these may change: {', '.join(may_change)}; for other "
                f"settings start a new run."
            )


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """A list that SIGINT and SIGTERM append to; a second signal acts as it did before."""
    received: list[int] = []
    previous: dict[int, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for each, handler in previous.items():
            signal.signal(each, handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            previous[number] = signal.signal(number, handle)
        except ValueError:  # not the main thread: the caller sees to signals
            break
    try:
        yield received
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)
