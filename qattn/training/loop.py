"""The training loop: steps, validation, checkpoints, and stopping when asked."""

import logging
import platform
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from scipy import stats

from qattn._clock import sampling_clock
from qattn._version import __version__
from qattn.backends import BackendStopped
from qattn.training.config import TrainConfig
from qattn.training.folder import RunFolder
from qattn.training.learner import Learner
from qattn.training.progress import Progress
from qattn.training.threads import choose_threads

log = logging.getLogger("qattn.training")

SUMMARISED = ("task", "attention", "sampler", "context", "seed", "ensemble", "device")
"""Settings that stand in the summary too."""


class Interrupted(Exception):  # noqa: N818 - not an error: the run can go on
    """The run was asked to stop, or its sampler could not go on; the checkpoint is written.

    A sampler's reason is the ``__cause__``, a :class:`~qattn.backends.BackendStopped`.
    """


def train(config: TrainConfig, out: Path, *, resume: bool = False) -> dict[str, Any]:
    """Train as `config` says, writing to the folder `out`; returns the summary.

    A run that is killed loses at most the steps since its last checkpoint; resumed, it ends with
    the weights and metrics of an uninterrupted run, to the bit on the CPU with the same number of
    threads.

    Raises:
        Interrupted: SIGINT or SIGTERM came, or a sampler cannot go on (a QPU budget is spent, say);
            the checkpoint is written.
        BackendStopped: A sampler is not available from the start.
        FloatingPointError: The loss is no longer finite; the last checkpoint is from before.
        FileExistsError: `out` exists and `resume` is false.
    """
    folder = RunFolder(out)
    before = folder.read_config().threads if resume else None
    threads = config.threads or before or choose_threads(config)
    if before not in (None, threads):
        log.warning(
            "Resuming with %d threads instead of %d: weights may differ in their last bits from "
            "those of an uninterrupted run.",
            threads,
            before,
        )
    config = replace(config, threads=threads)
    learner = Learner(config)
    if not resume and out.exists():
        folder.create(config)  # refuses, before anything is connected
    threads_of_caller = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        learner.open_backends(out)
        return _train(config, learner, folder, resume=resume)
    finally:
        learner.close_backends()
        torch.set_num_threads(threads_of_caller)


def _train(
    config: TrainConfig, learner: Learner, folder: RunFolder, *, resume: bool
) -> dict[str, Any]:
    progress_made: dict[str, Any] = {"step": 0, "seconds": 0.0, "sampling_seconds": 0.0}
    pending = torch.zeros(config.ensemble)
    if resume:
        state = folder.read_checkpoint()
        if state is not None:
            learner.load_state_dict(state["learner"])
            progress_made, pending = state["progress"], state["pending"]
        folder.forget_metrics_after(progress_made["step"])
        folder.write_config(config)
    else:
        folder.create(config)

    def checkpoint() -> None:
        folder.write_checkpoint(
            {"learner": learner.state_dict(), "progress": progress_made, "pending": pending}
        )

    def interrupted(why: str) -> Interrupted:
        checkpoint()
        return Interrupted(
            f"{why} at step {progress_made['step']} of {config.steps}; checkpoint written. "
            f"Continue with: qattn train --resume {folder.path}"
        )

    sampling_clock.take()
    with _stop_requests() as stop, Progress(config, learner.tasks[0].metric) as bar:
        for number in range(progress_made["step"], config.steps):
            start = time.perf_counter()
            before = learner.chance_state()
            try:
                pending = pending + learner.step(number).cpu()
            except BackendStopped as stopped:
                learner.load_chance_state(before)
                raise interrupted(f"{stopped} Stopped") from stopped
            progress_made["seconds"] += time.perf_counter() - start
            progress_made["sampling_seconds"] += sampling_clock.take()
            step = progress_made["step"] = number + 1
            last = step == config.steps

            if step % config.log_every == 0 or last:
                losses = pending / ((step - 1) % config.log_every + 1)
                pending = torch.zeros(config.ensemble)
                _check_finite(losses, step, folder)
                record = {"step": step, **_described("loss", losses.tolist()), **progress_made}
                record |= learner.backend_metrics()
                folder.append_metrics(record)
                bar.training(record)
            if step % config.eval_every == 0 or last:
                try:
                    record = {"step": step, **_metrics(learner)}
                except BackendStopped as stopped:
                    raise interrupted(f"{stopped} Stopped in the validation") from stopped
                folder.append_metrics(record)
                bar.validation(record)
                sampling_clock.take()
            if step % config.checkpoint_every == 0 or last:
                checkpoint()
            if stop and not last:
                raise interrupted("Stopped")
    summary = _summary(config, learner, progress_made)
    folder.write_summary(summary)
    return summary


def _described(name: str, values: list[float]) -> dict[str, Any]:
    """One number; of an ensemble the mean, the members and the 95% interval of the mean."""
    if len(values) == 1:
        return {name: values[0]}
    mean = sum(values) / len(values)
    error = float(stats.sem(values)) * float(stats.t.ppf(0.975, len(values) - 1))
    return {
        name: mean,
        f"{name}_interval": [mean - error, mean + error],
        f"{name}_members": values,
    }


def _metrics(learner: Learner) -> dict[str, Any]:
    members = learner.evaluate()
    described = (_described(name, [member[name] for member in members]) for name in members[0])
    return {name: value for each in described for name, value in each.items()}


def _summary(
    config: TrainConfig, learner: Learner, progress_made: dict[str, Any]
) -> dict[str, Any]:
    seconds = progress_made["seconds"]
    return {
        **{name: getattr(config, name) for name in SUMMARISED},
        "steps": progress_made["step"],
        **_metrics(learner),
        "seconds_per_step": seconds / progress_made["step"],
        "sampling_share": progress_made["sampling_seconds"] / seconds,
        **learner.backend_provenance(),
        **learner.backend_metrics(),
        "parameters": sum(p.numel() for p in learner.model.parameters()),
        "threads": torch.get_num_threads(),
        "versions": {
            "qattn": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def _check_finite(losses: torch.Tensor, step: int, folder: RunFolder) -> None:
    if not bool(losses.isfinite().all()):
        raise FloatingPointError(
            f"The loss is {losses.max().item()} at step {step}: lower --lr. "
            f"The last checkpoint in {folder.path} is from before."
        )


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
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
