"""The training loop: steps, validation, checkpoints, and stopping when asked."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qattn._clock import sampling_clock
from qattn.backends import BackendStopped
from qattn.couplings.base import NotFinite
from qattn.training.config import TrainConfig
from qattn.training.emulated import on_an_emulated_qpu
from qattn.training.environment import (
    changes,
    choose_threads,
    environment,
    keep_freed_memory,
    using_threads,
)
from qattn.training.folder import RunFolder
from qattn.training.learner import Learner
from qattn.training.progress import Progress
from qattn.training.resuming import Interrupted, check_resumes, resume_command, stop_requests
from qattn.training.summary import betas, described, summarised, validated
from qattn.training.trained_run import save_weights

log = logging.getLogger("qattn.training")

CHECKPOINT_SECONDS = {True: 5.0, False: 60.0}
"""Seconds after which a checkpoint is due, where reads cost money and where they do not."""


def train(
    config: TrainConfig,
    out: Path,
    *,
    resume: bool = False,
    buy_again: bool = False,
    stop: Callable[[], bool] | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train as `config` says, writing to the folder `out`; returns the summary.

    A run that is killed loses at most the steps since its last checkpoint; resumed, it ends with
    the weights and metrics of an uninterrupted run, to the bit on the CPU with the same number of
    threads and the same versions. If these differ, a line says so.

    Args:
        config: The settings.
        out: The run's folder.
        resume: Go on with the run in `out`; only more steps, and settings on which results do not
            depend, may be other than those of its checkpoint.
        buy_again: Resuming, go on where a paid backend would have to be paid again for what its
            records hold, because the run does not repeat itself to the bit.
        stop: Asked before each step: whether to stop, as a signal would.
        quiet: Show no progress.

    Raises:
        Interrupted: SIGINT or SIGTERM came, `stop` said so, a sampler cannot go on (a QPU budget is
            spent, say), or a file cannot be written. The message says whether there is a
            checkpoint.
        BackendStopped: A sampler is not available from the start.
        FloatingPointError: A loss is no longer finite; the last checkpoint is from before.
        FileExistsError: `out` exists and `resume` is false.
        ValueError: A setting may not change on resuming, or no checkpoint can be read.
    """
    keep_freed_memory()
    folder = RunFolder(out)
    state, before = None, None
    if resume:
        state = folder.read_checkpoint()
        started = folder.trained_config(state)
        check_resumes(started, config, out)
        before = {"threads": started.threads} if state is None else state["environment"]
    threads = config.threads or (before or {}).get("threads") or choose_threads(config)
    config = replace(config, threads=threads)
    step = 0 if state is None else state["progress"]["step"]
    with (
        using_threads(threads),
        on_an_emulated_qpu(config, step) as served,
        folder.tracked(config),
    ):
        learner = Learner(served)
        if not resume and out.exists():
            folder.create(config)  # refuses, before anything is connected
        try:
            if before is not None and (other := changes(before, environment(learner.device))):
                log.warning(
                    "Resuming with %s: weights may differ in their last bits from those of an "
                    "uninterrupted run.",
                    other,
                )
            with Progress(config, learner.tasks[0].metric, quiet=quiet) as bar:
                bar.status("opening the sampler")
                learner.open_backends(out)
                run = _Run(config, learner, folder, bar)
                if resume:
                    run.restore(state, buy_again=buy_again)
                else:
                    folder.create(config)
                return run.go_on(stop or (lambda: False))
        finally:
            learner.close_backends()


class _Run:
    """A run between two steps: what its checkpoint holds, and what is due there."""

    def __init__(
        self, config: TrainConfig, learner: Learner, folder: RunFolder, bar: Progress
    ) -> None:
        self.config, self.learner, self.folder, self.bar = config, learner, folder, bar
        self.made: dict[str, Any] = {"step": 0, "seconds": 0.0, "sampling_seconds": 0.0}
        self.losses, self.unlogged = torch.zeros(config.ensemble), 0
        self.gradient_errors: Tensor | None = None
        self.validation: dict[str, Any] = {}
        self.saved: int | None = None
        self.resumed = False
        self.saved_at = time.monotonic()
        self.patience = config.checkpoint_seconds or CHECKPOINT_SECONDS[learner.paid]

    def restore(self, state: dict[str, Any] | None, *, buy_again: bool) -> None:
        """Go back to a checkpoint, or to the start if there is none."""
        self.resumed = True
        if state is not None:
            self.learner.load_state_dict(state["learner"])
            self.made = state["progress"]
            self.losses, self.unlogged = state["pending"]["losses"], state["pending"]["steps"]
            self.gradient_errors = state["pending"].get("gradient_errors")
            self.saved = self.made["step"]
        self.learner.resume_backends(buy_again=buy_again)
        records = self.folder.forget_metrics_after(self.made["step"])
        self.validation = next((r for r in reversed(records) if "validation_loss" in r), {})
        if not self.learner.replaying:
            self.folder.write_config(self.config)

    def go_on(self, asked_to_stop: Callable[[], bool]) -> dict[str, Any]:
        """Train to the end; returns the summary."""
        sampling_clock.take()
        self.bar.begin(self.made["step"])
        with stop_requests() as signals:
            while True:
                try:
                    if self.made["step"] == 0:
                        self.learner.set_betas(0)
                    self._write_what_is_due()
                    if self.made["step"] == self.config.steps:
                        summary = summarised(self.config, self.learner, self.made, self.validation)
                        save_weights(
                            self.folder.path,
                            self.config,
                            self.learner.tasks,
                            self.learner.parameters,
                        )
                        self.folder.write_summary(summary)
                        return summary
                    if signals or asked_to_stop():
                        raise self._interrupted("Stopped")
                    self._step()
                except NotFinite as error:
                    members = self.learner.overflowing(self.made["step"])
                    raise self._divergence(members, "its fields are not finite") from error
                except (BackendStopped, OSError) as error:
                    reason = str(error).rstrip(".")
                    raise self._interrupted(f"{reason}. Stopped", error) from error

    def _step(self) -> None:
        every, step, exact = self.config.gradient_every, self.made["step"], None
        if every is not None and (step + 1) % every == 0:
            exact = self.learner.exact_gradient(step)
            sampling_clock.take()
        start = time.perf_counter()
        with self._all_or_nothing():
            losses = self.learner.step(step).cpu()
        self.made["seconds"] += time.perf_counter() - start
        self.made["sampling_seconds"] += sampling_clock.take()
        self.made["step"] += 1
        if diverged := self.learner.diverged(losses):
            loss = losses[diverged[0]].item()
            raise self._divergence(diverged, f"the loss is {loss}")
        self.losses, self.unlogged = self.losses + losses, self.unlogged + 1
        if exact is not None:
            self.gradient_errors = self.learner.gradient_errors(exact).cpu()
        self.bar.step(self.made, losses.mean().item(), self.learner.backend_metrics())

    def _write_what_is_due(self) -> None:
        """Lines of metrics and the checkpoint, unless they are written already."""
        config, step = self.config, self.made["step"]
        last = step == config.steps
        if self.unlogged and (last or step % config.log_every == 0):
            record = {"step": step, **described("loss", (self.losses / self.unlogged).tolist())}
            record |= self.made | self.learner.backend_metrics() | betas(self.learner)
            self.folder.append_metrics(record)
            self.losses, self.unlogged = torch.zeros(config.ensemble), 0
        if self.gradient_errors is not None:
            errors = described("gradient_error", self.gradient_errors.tolist())
            self.folder.append_metrics({"step": step, **errors})
            self.gradient_errors = None
        # The value at step 0 costs neither money nor random numbers if it is exact.
        due = config.eval_sampler == "exact" if step == 0 else step % config.eval_every == 0
        if (last or due) and self.validation.get("step") != step:
            self.bar.status("validating")
            with self._all_or_nothing():
                validation = {"step": step, **validated(self.learner)}
                self.folder.append_metrics(validation)
            self.validation = validation
            self.bar.validation(validation)
            sampling_clock.take()
        late = time.monotonic() - self.saved_at >= self.patience
        due = (late or step % config.checkpoint_every == 0) and not self.learner.replaying
        if (last or due) and self.saved != step:
            self._save()

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Take back what was drawn at random, and asked of the backends, if this is cut short."""
        before = self.learner.chance_state()
        try:
            yield
        except (BackendStopped, OSError):
            self.learner.load_chance_state(before)
            raise

    def _save(self) -> None:
        self.folder.write_config(self.config)
        self.folder.write_checkpoint(
            {
                "learner": self.learner.state_dict(),
                "progress": self.made,
                "pending": {
                    "losses": self.losses,
                    "steps": self.unlogged,
                    "gradient_errors": self.gradient_errors,
                },
                "config": self.config.to_toml(),
                "environment": environment(self.learner.device),
            }
        )
        self.saved, self.saved_at = self.made["step"], time.monotonic()

    def _interrupted(self, why: str, error: Exception | None = None) -> Interrupted:
        """The end of a run that can go on, with a checkpoint if it can be written."""
        step = self.made["step"]
        flags = error.resume_flags if isinstance(error, BackendStopped) else ""
        if flags is None and step == 0 and not self.resumed:
            self.folder.discard()
            return Interrupted(f"{why} before the first step; nothing was written.")
        written = self._saved_or_not()
        command = resume_command(self.folder.path, flags or "")
        after = "" if flags is None else f" Continue with: {command}"
        return Interrupted(f"{why} at step {step} of {self.config.steps}; {written}.{after}")

    def _saved_or_not(self) -> str:
        """Write a checkpoint if there is none of this step; returns what came of it."""
        if self.learner.replaying:
            return f"the checkpoint of step {self.saved or 0} stands"
        if self.saved != self.made["step"]:
            try:
                self._save()
            except OSError:
                self.learner.close_backends()  # its sockets may be those that are too many
                try:
                    self._save()
                except OSError as error:
                    kept = "none" if self.saved is None else f"that of step {self.saved}"
                    return f"no checkpoint can be written ({error}), the last is {kept}"
        return "checkpoint written"

    def _divergence(self, members: list[int], what: str) -> FloatingPointError:
        seeds = ", ".join(str(self.config.seed + member) for member in members)
        who = f"with seed {seeds} " if self.config.ensemble > 1 else ""
        return FloatingPointError(
            f"The training {who}diverged at step {self.made['step']}: {what}. Lower --lr or "
            f"lengthen --warmup. The checkpoint of step {self.saved} in '{self.folder.path}' is "
            f"from before."
        )
