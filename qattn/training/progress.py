"""The progress of a run: a bar on a terminal, a line per validation elsewhere."""

from typing import Any

from rich import progress
from rich.console import Console

from qattn.training.config import TrainConfig


class Progress(progress.Progress):
    """Loss, metric, steps per second and the share of time spent in sampling."""

    def __init__(self, config: TrainConfig, metric: str) -> None:
        console = Console(stderr=True)
        super().__init__(
            progress.TextColumn(f"{config.task}, {config.attention}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[loss]}  {task.fields[metric]}  {task.fields[speed]}"),
            progress.TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.steps, self.metric = config.steps, metric
        self.shown: dict[str, Any] = {"loss": "loss …", "metric": f"{metric} …", "speed": ""}
        self.bar = self.add_task("", total=config.steps, **self.shown)

    def training(self, record: dict[str, Any]) -> None:
        """Show a line of training: loss and speed."""
        share = record["sampling_seconds"] / record["seconds"]
        self.shown["loss"] = f"loss {record['loss']:.4f}"
        self.shown["speed"] = (
            f"{record['step'] / record['seconds']:.0f} steps/s, {share:.0%} sampling"
        )
        if "qpu_seconds" in record:
            left = record.get("qpu_seconds_left")
            ceiling = "" if left is None else f", {left:.3g} s left"
            self.shown["speed"] += f", QPU {record['qpu_seconds']:.3g} s spent{ceiling}"
        self.update(self.bar, completed=record["step"], **self.shown)

    def validation(self, record: dict[str, Any]) -> None:
        """Show a validation: the metric."""
        self.shown["metric"] = f"{self.metric} {record[self.metric]:.4f}"
        self.update(self.bar, completed=record["step"], **self.shown)
        if not self.console.is_terminal:
            parts = ", ".join(part for part in self.shown.values() if part)
            self.console.print(f"step {record['step']} of {self.steps}: {parts}", soft_wrap=True)
