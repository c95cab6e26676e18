"""The run of a fit: steps, measurements, checkpoints, and stopping when asked."""

import dataclasses
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from qattn._version import __version__
from qattn.fitting.config import FitConfig, FitFolder
from qattn.fitting.fit import Fit, Step
from qattn.fitting.measure import Figures, measure, reference_for
from qattn.fitting.plots import plot_fit
from qattn.quality import Reference
from qattn.simulators.autoregressive import FittedSampler, build_net, save_sampler
from qattn.simulators.autoregressive.checkpoint import couplings_hash
from qattn.training.environment import changes, environment, keep_freed_memory, using_threads
from qattn.training.resuming import Interrupted, resume_command, stop_requests

log = logging.getLogger("qattn.training")

READS_ALONG = 2000
"""Reads by which the net is measured along the way."""


def fit_sampler(
    config: FitConfig,
    out: Path,
    *,
    resume: bool = False,
    stop: Callable[[], bool] | None = None,
    progress: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Fit a sampler as `config` says, writing to the folder `out`; returns the summary.

    The folder is a checkpoint of ``get_backend("autoregressive", checkpoint=out)`` from the first
    checkpoint on. A run that is killed loses at most the steps since the last one; with a number of
    steps, and not of seconds, it ends resumed with the parameters of an uninterrupted one, to the
    bit on the CPU with the same number of threads and the same versions.

    Args:
        config: The settings.
        out: The run's folder.
        resume: Go on with the run in `out`; only settings on which results do not depend, and the
            budget, may be other than those of its checkpoint.
        stop: Asked before each step: whether to stop, as a signal would.
        progress: Called with a line on what is done.
        clock: What ``seconds`` are counted by.

    Raises:
        Interrupted: SIGINT or SIGTERM came, or `stop` said so; the message has the command that
            goes on.
        FloatingPointError: A number is no longer finite; the last checkpoint is from before.
        FileExistsError: `out` exists and `resume` is false.
        ValueError: Problems or settings are wrong, a setting may not change on resuming, or no
            checkpoint can be read.
    """
    keep_freed_memory()
    folder, state = FitFolder(out), None
    if resume:
        state = folder.read_checkpoint()
        _check_resumes(folder.trained_config(state), config, out)
    with using_threads(config.threads or 1):
        run = _Run(config, folder, progress, clock)
        if resume:
            run.restore(state)
        else:
            folder.create(config)
        return run.go_on(stop or (lambda: False))


class _Run:
    """A fit between two steps: what its checkpoint holds, and what is due there."""

    def __init__(
        self,
        config: FitConfig,
        folder: FitFolder,
        progress: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self.config, self.folder, self.progress, self.clock = config, folder, progress, clock
        self.batches = config.batches()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            nets = [(build_net(config.built, batch), batch) for batch in self.batches]
        self.fit = Fit(nets, config.beta, config, is_family=config.family is not None)
        self.made: dict[str, Any] = {"step": 0, "seconds": 0.0, "measured": 0}
        self.figures: Figures | None = None
        self.saved: int | None = None
        self.saved_at = time.monotonic()

    @property
    def spent(self) -> float:
        """Share of the budget that is spent."""
        return self.config.progress(self.made["step"], self.made["seconds"])

    def restore(self, state: dict[str, Any] | None) -> None:
        """Go back to a checkpoint, or to the start if there is none."""
        if state is not None:
            self.fit.load_state_dict(state["fit"])
            self.made, self.saved = state["progress"], state["progress"]["step"]
            now = environment(self.fit.device)
            if other := changes(state["environment"], now):
                log.warning("Resuming with %s: parameters may differ in their last bits.", other)
        self.folder.forget_metrics_after(self.made["step"])
        self.folder.write_config(self.config)

    def go_on(self, asked_to_stop: Callable[[], bool]) -> dict[str, Any]:
        """Fit to the end; returns the summary."""
        references = self._references()
        with stop_requests() as signals:
            while not self.fit.schedule.is_over(self.spent):
                if self.saved is None or time.monotonic() - self.saved_at > self._patience:
                    self._save()
                if signals or asked_to_stop():
                    raise self._interrupted()
                self._step()
                self._measure_if_due(references)
        return self._finish(references)

    @property
    def _patience(self) -> float:
        return self.config.checkpoint_seconds

    def _references(self) -> list[Reference | None]:
        """What is known of each set of problems at the target β."""
        found = []
        for batch in self.batches:
            self.progress("looking for a reference")
            at_target = self.fit.at(self.config.beta, batch)
            seed, kind = self.config.seed, self.config.reference
            found.append(reference_for(at_target, kind, seed, self.progress))
        return found

    def _step(self) -> None:
        start = self.clock()
        try:
            found = self.fit.step(self.spent)
        except FloatingPointError as error:
            raise FloatingPointError(
                f"{error} The checkpoint of step {self.saved} in '{self.folder.path}' is from "
                f"before."
            ) from None
        took = self.clock() - start
        if self.made["step"] == 1:  # the first one warms up
            self.fit.take_fewer_positions(took)
        self.made["seconds"] += took
        self.made["step"] += 1
        if self.made["step"] % self.config.log_every == 0:
            record = {"step": self.made["step"], "seconds": self.made["seconds"], **vars(found)}
            self.folder.append_metrics(record)
            self.progress(self._line(found))

    def _measure_if_due(self, references: list[Reference | None]) -> None:
        """Measure the averaged net now and then along the way, once β has come."""
        due = int(self.spent * self.config.evaluations)
        if due <= self.made["measured"] or self.spent >= 1:
            return
        self.made["measured"] = due
        if self.fit.schedule.beta != self.config.beta:
            return
        self.figures = self._measured(references, READS_ALONG)[0]
        measured = {f"measured_{name}": x for name, x in self.figures.as_values().items()}
        self.folder.append_metrics({"step": self.made["step"], **measured})

    def _measured(self, references: list[Reference | None], num_reads: int) -> list[Figures]:
        """Figures of the averaged net on each set of problems, from a generator of their own."""
        generator = torch.Generator(self.fit.device).manual_seed(self.config.seed + 1)
        with self.fit.averaged():
            return [
                measure(net, self.fit.at(self.config.beta, batch), num_reads, generator, reference)
                for (net, batch), reference in zip(self.fit.nets, references, strict=True)
            ]

    def _line(self, found: Step) -> str:
        budget = f" of {self.config.steps}" if self.config.steps else ""
        parts = [
            f"step {self.made['step']}{budget}",
            f"β {found.beta:.3g} of {self.config.beta:.3g}",
            f"F_q {found.F:.5f}",
            f"ESS {self.fit.schedule.ess:.3f}",
            f"std(ln q + βE) {found.spread:.2g}",
        ]
        if self.figures is not None and self.figures.forward_ess is not None:
            parts.append(f"forward ESS {self.figures.forward_ess:.3f}")
        return ", ".join(parts)

    def _sampler(self) -> FittedSampler:
        """The averaged net as it is drawn from."""
        is_family = self.config.family is not None
        return FittedSampler(
            self.config.built,
            self.fit.average,
            (self.fit.lowest, self.config.beta) if is_family else (self.config.beta,),
            None if is_family else couplings_hash(self.batches[0].matrix[0]),
            None if is_family else self.fit.net.plan,
            {} if self.figures is None else self.figures.as_values(),
        )

    def _save(self) -> None:
        self.folder.write_checkpoint(
            {
                "fit": self.fit.state_dict(),
                "progress": dict(self.made),
                "config": self.config.to_toml(),
                "environment": environment(self.fit.device),
            }
        )
        save_sampler(self.folder.path, self._sampler())
        self.saved, self.saved_at = self.made["step"], time.monotonic()

    def _interrupted(self) -> Interrupted:
        if self.saved != self.made["step"]:
            self._save()
        command = resume_command(self.folder.path, command="fit-sampler")
        return Interrupted(
            f"Stopped at step {self.made['step']}; checkpoint written. Continue with: {command}"
        )

    def _finish(self, references: list[Reference | None]) -> dict[str, Any]:
        """The last measurement, the sampler, the summary and the plots."""
        self.progress("measuring the fitted sampler")
        found = self._measured(references, self.config.num_reads)
        self.figures = found[0]
        self._save()
        summary = {
            "problems": self.config.problems or self.config.family,
            "beta": self.config.beta,
            "num_spins": self.batches[0].num_spins,
            "parameters": sum(p.numel() for p in self.fit.learned.values()),
            "steps": self.made["step"],
            "seconds": self.made["seconds"],
            "first_beta": self.fit.schedule.first,
            **self.figures.as_values(),
            "net": dataclasses.asdict(self.config.built),
            "couplings": self._sampler().couplings,
            "versions": {"qattn": __version__, "torch": torch.__version__},
        }
        if self.config.family:
            summary["sets"] = [
                {"num_spins": batch.num_spins, **figures.as_values()}
                for batch, figures in zip(self.batches, found, strict=True)
            ]
        self.folder.write_summary(summary)
        self.progress("drawing the plots")
        plot_fit(self.folder)
        return summary


def _check_resumes(started: FitConfig, config: FitConfig, folder: Path) -> None:
    """Check that a run can go on with these settings.

    Raises:
        ValueError: A setting that may not change is another one.
    """
    for field in dataclasses.fields(config):
        value, old = getattr(config, field.name), getattr(started, field.name)
        if value == old or field.metadata.get("may_change") or field.name in ("steps", "seconds"):
            continue
        raise ValueError(
            f"Cannot resume '{folder}' with {field.name} = {value}: it was started with {old}. "
            f"Only the budget, --steps and --seconds, may grow, and threads change; for other "
            f"settings start a new run."
        )
