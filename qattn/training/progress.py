"""The progress of a run: a bar of two lines on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Iterable
from typing import Any

from rich import progress
from rich.console import Console, RenderableType
from rich.text import Text

from qattn.training.config import TrainConfig

LINE_EVERY = 2.0
"""Seconds between lines where there is no terminal."""


class Progress(progress.Progress):
    """Steps, time left, loss, metric, speed, and the QPU time spent and left.

    Both lines fit 80 columns.
    """

    def __init__(self, config: TrainConfig, metric: str, *, quiet: bool = False) -> None:
        self.shown = dict.fromkeys(("loss", "metric", "speed", "sampling"), "")
        console = Console(stderr=True, quiet=quiet)
        super().__init__(
            progress.TextColumn("{task.description}"),
            progress.MofNCompleteColumn(),
            progress.BarColumn(bar_width=None),
            progress.TimeElapsedColumn(),
            progress.TextColumn("left"),
            progress.TimeRemainingColumn(),
            console=console,
            disable=quiet or not console.is_terminal,
            expand=True,
        )
        self.steps, self.metric = config.steps, metric
        self.sampled = config.sampler != "exact"
        self.what = f"{config.task}, {config.arm}, {config.sampler}, seed {config.seed}"
        self.printed_at = time.monotonic()
        self.bar = self.add_task("", total=config.steps)

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bar, and what is known below it."""
        yield from super().get_renderables()
        yield Text("  ".join(filter(None, self.shown.values())), overflow="ellipsis", no_wrap=True)

    def begin(self, step: int) -> None:
        """Start the clock of the time that is left."""
        self.reset(self.bar, completed=step)
        self.first, self.started_at = step, time.monotonic()
        if not self.console.is_terminal:
            self.console.print(f"training {self.what}: {self.steps} steps", soft_wrap=True)
        self.status("starting")

    def status(self, doing: str) -> None:
        """Say what takes a moment."""
        self.update(self.bar, description=doing, refresh=True)

    def step(self, made: dict[str, Any], loss: float, reported: dict[str, float]) -> None:
        """Show a step that was made: loss, speed, QPU time."""
        each = (time.monotonic() - self.started_at) / (made["step"] - self.first)
        self.shown["loss"] = f"loss {loss:.4f}"
        self.shown["speed"] = f"{each:.3g} s/step" if each > 1 else f"{1 / each:.3g} steps/s"
        if "qpu_seconds" in reported:
            left = reported.get("qpu_seconds_left")
            ceiling = "" if left is None else f", {_seconds(left)} left"
            self.shown["sampling"] = f"QPU {_seconds(reported['qpu_seconds'])}{ceiling}"
        elif self.sampled:
            share = made["sampling_seconds"] / made["seconds"]
            self.shown["sampling"] = f"{share:.0%} sampling"
        self.update(self.bar, completed=made["step"], description="")
        if time.monotonic() - self.printed_at > LINE_EVERY:
            self._line(made["step"])

    def validation(self, record: dict[str, Any]) -> None:
        """Show a validation: the metric."""
        self.shown["metric"] = f"{self.metric} {record[self.metric]:.4f}"
        self.update(self.bar, description="")
        self._line(record["step"])

    def _line(self, step: int) -> None:
        self.printed_at = time.monotonic()
        if not self.console.is_terminal:
            parts = ", ".join(filter(None, self.shown.values()))
            self.console.print(f"step {step} of {self.steps}: {parts}", soft_wrap=True)


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 100 else f"{value:.3g} s"
