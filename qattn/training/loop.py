"""The training loop: steps, validation, checkpoints, and stopping when asked."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
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
from qattn.training.ranks import RankLost, Ranks, joined
from qattn.training.resuming import (
    Interrupted,
    check_processes,
    check_resumes,
    resume_command,
    stop_requests,
)
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
    ranks: Ranks | None = None,
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
        ranks: The processes that train together; None for those that ``torchrun`` has started.
            All of them call this, rank 0 writes, and what ends one ends all.

    Raises:
        Interrupted: SIGINT or SIGTERM came, `stop` said so, a sampler cannot go on (a QPU budget is
            spent, say), or a file cannot be written. The message says whether there is a
            checkpoint. Or another process is gone.
        BackendStopped: A sampler is not available from the start.
        FloatingPointError: A loss is no longer finite; the last checkpoint is from before.
        FileExistsError: `out` exists and `resume` is false.
        ValueError: A setting may not change on resuming, or no checkpoint can be read.
    """
    keep_freed_memory()
    with joined() if ranks is None else nullcontext(ranks) as ranks:
        folder = RunFolder(out)
        state, before = None, None
        if resume:
            state = ranks.first(folder.read_checkpoint)
            started = ranks.first(folder.trained_config, state)
            check_resumes(started, config, out)
            check_processes(state, ranks.size, out)
            before = {"threads": started.threads} if state is None else state["environment"]
        chosen = choose_threads(config, ranks.local_size)
        threads = config.threads or (before or {}).get("threads") or chosen
        config = replace(config, threads=threads)
        step = 0 if state is None else state["progress"]["step"]
        with (
            using_threads(threads),
            on_an_emulated_qpu(config, step, ranks.rank) as served,
            folder.tracked(config),
        ):
            with ranks.together():
                learner = Learner(served, ranks)
            if not resume:
                ranks.first(_refuse_to_replace, folder, config)
            try:
                now = environment(learner.device, ranks.size)
                if before is not None and (other := changes(before, now)) and ranks.rank == 0:
                    log.warning(
                        "Resuming with %s: weights may differ in their last bits from those of an "
                        "uninterrupted run.",
                        other,
                    )
                quiet = quiet or ranks.rank > 0
                with Progress(config, learner.tasks[0].metric, quiet=quiet) as bar:
                    bar.status("opening the sampler")
                    learner.open_backends(out)
                    run = _Run(config, learner, folder, bar)
                    if resume:
                        run.restore(state, buy_again=buy_again)
                    else:
                        ranks.first(folder.create, config)
                    return run.go_on(stop or (lambda: False))
            finally:
                learner.close_backends()


def _refuse_to_replace(folder: RunFolder, config: TrainConfig) -> None:
    """Raise the error of a folder that is there already, before anything is connected."""
    if folder.path.exists():
        folder.create(config)


class _Run:
    """A run between two steps: what its checkpoint holds, and what is due there."""

    def __init__(
        self, config: TrainConfig, learner: Learner, folder: RunFolder, bar: Progress
    ) -> None:
        self.config, self.learner, self.folder, self.bar = config, learner, folder, bar
        self.ranks, self.share = learner.ranks, learner.share
        self.made: dict[str, Any] = {"step": 0, "seconds": 0.0, "sampling_seconds": 0.0}
        self.losses, self.unlogged = self._no_losses(), 0
        self.last_losses = self._no_losses()
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
            self.losses = self.share.own(state["pending"]["losses"])
            self.unlogged = state["pending"]["steps"]
            if (errors := state["pending"].get("gradient_errors")) is not None:
                self.gradient_errors = self.share.own(errors)
            self.saved = self.made["step"]
        self.learner.resume_backends(buy_again=buy_again)
        records = self.ranks.first(self.folder.forget_metrics_after, self.made["step"])
        self.validation = next((r for r in reversed(records) if "validation_loss" in r), {})
        if not self.ranks.any(self.learner.replaying)[0]:
            self.ranks.first(self.folder.write_config, self.config)

    def go_on(self, asked_to_stop: Callable[[], bool]) -> dict[str, Any]:
        """Train to the end; returns the summary."""
        sampling_clock.take()
        self.bar.begin(self.made["step"])
        with stop_requests() as signals:
            while True:
                try:
                    if self.made["step"] == 0:
                        self.learner.set_betas(0)
                    asked = self._agree(bool(signals) or asked_to_stop())
                    self._write_what_is_due()
                    if self.made["step"] == self.config.steps:
                        summary = summarised(self.config, self.learner, self.made, self.validation)
                        self._write_the_end(summary)
                        return summary
                    if asked:
                        raise self._interrupted("Stopped")
                    self._step()
                except NotFinite as error:
                    members = self.learner.overflowing(self.made["step"])
                    raise self._divergence(members, "its fields are not finite") from error
                except RankLost as error:
                    raise self._forsaken(error) from error
                except (BackendStopped, OSError) as error:
                    reason = str(error).rstrip(".")
                    raise self._interrupted(f"{reason}. Stopped", error) from error

    def _write_the_end(self, summary: dict[str, Any]) -> None:
        """The weights of all members, and the summary."""
        weights = self.learner.state_dict().get("parameters")  # on rank 0
        self.ranks.first(save_weights, self.folder.path, self.config, weights)
        self.ranks.first(self.folder.write_summary, summary)

    def _agree(self, asked: bool) -> bool:
        """Whether some rank is asked to stop; all agree on what is to be done between two steps."""
        late = time.monotonic() - self.saved_at >= self.patience
        diverged = self.learner.diverged(self.last_losses)
        some, self.late, self.replaying, asked = self.ranks.any(
            bool(diverged), late, self.learner.replaying, asked
        )
        if some:
            members = self.ranks.union(diverged)
            loss = self.share.whole(self.last_losses)[members[0]].item()
            raise self._divergence(members, f"the loss is {loss}")
        return asked

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
        self.last_losses = losses
        self.losses, self.unlogged = self.losses + losses, self.unlogged + 1
        if exact is not None:
            self.gradient_errors = self.learner.gradient_errors(exact).cpu()
        shown = self.ranks.size == 1 or self.learner.paid
        reported = self.learner.backend_metrics() if shown else {}
        self.bar.step(self.made, losses.mean().item(), reported)

    def _no_losses(self) -> Tensor:
        return torch.zeros(len(self.share.members))

    def _record(self, record: dict[str, Any]) -> None:
        """Add a line to the run's metrics."""
        self.ranks.first(self.folder.append_metrics, record)

    def _write_what_is_due(self) -> None:
        """Lines of metrics and the checkpoint, unless they are written already."""
        config, step = self.config, self.made["step"]
        last = step == config.steps
        if self.unlogged and (last or step % config.log_every == 0):
            losses = self.share.whole(self.losses / self.unlogged)
            record = {"step": step, **described("loss", losses.tolist())}
            self._record(record | self.made | self.learner.backend_metrics() | betas(self.learner))
            self.losses, self.unlogged = self._no_losses(), 0
        if self.gradient_errors is not None:
            members = self.share.whole(self.gradient_errors).tolist()
            self._record({"step": step, **described("gradient_error", members)})
            self.gradient_errors = None
        # The value at step 0 costs neither money nor random numbers if it is exact.
        due = config.eval_sampler == "exact" if step == 0 else step % config.eval_every == 0
        if (last or due) and self.validation.get("step") != step:
            self.bar.status("validating")
            with self._all_or_nothing():
                validation = {"step": step, **validated(self.learner)}
                self._record(validation)
            self.validation = validation
            self.bar.validation(validation)
            sampling_clock.take()
        due = (self.late or step % config.checkpoint_every == 0) and not self.replaying
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
        errors = self.gradient_errors
        state = {
            "learner": self.learner.state_dict(),
            "progress": self.made,
            "pending": {
                "losses": self.share.whole(self.losses),
                "steps": self.unlogged,
                "gradient_errors": None if errors is None else self.share.whole(errors),
            },
            "config": self.config.to_toml(),
            "environment": environment(self.learner.device, self.ranks.size),
        }
        self.ranks.first(self.folder.write_config, self.config)
        self.ranks.first(self.folder.write_checkpoint, state)
        self.saved, self.saved_at = self.made["step"], time.monotonic()

    def _interrupted(self, why: str, error: Exception | None = None) -> Interrupted:
        """The end of a run that can go on, with a checkpoint if it can be written."""
        step = self.made["step"]
        flags = error.resume_flags if isinstance(error, BackendStopped) else ""
        if flags is None and step == 0 and not self.resumed:
            self.ranks.first(self.folder.discard)
            return Interrupted(f"{why} before the first step; nothing was written.")
        written = self._saved_or_not()
        command = resume_command(self.folder.path, flags or "", processes=self.ranks.size)
        after = "" if flags is None else f" Continue with: {command}"
        return Interrupted(f"{why} at step {step} of {self.config.steps}; {written}.{after}")

    def _saved_or_not(self) -> str:
        """Write a checkpoint if there is none of this step; returns what came of it."""
        if self.ranks.any(self.learner.replaying)[0]:
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

    def _forsaken(self, error: RankLost) -> Interrupted:
        """The end of a run of which another process is gone, with its members or its part."""
        command = resume_command(self.folder.path, processes=self.ranks.size)
        return Interrupted(
            f"{error} Stopped at step {self.made['step']} of {self.config.steps}; the checkpoint "
            f"of step {self.saved} stands. Continue with: {command}"
        )

    def _divergence(self, members: list[int], what: str) -> FloatingPointError:
        seeds = ", ".join(str(self.config.seed + member) for member in members)
        who = f"with seed {seeds} " if self.config.ensemble > 1 else ""
        return FloatingPointError(
            f"The training {who}diverged at step {self.made['step']}: {what}. Lower --lr or "
            f"lengthen --warmup. The checkpoint of step {self.saved} in '{self.folder.path}' is "
            f"from before."
        )
