"""The progress of an experiment: a bar on a terminal, a line now and then elsewhere."""

import time

from rich import progress
from rich.console import Console

from qattn.experiments.standing import Standing

LOOK_EVERY = 1.0
"""Seconds between looks into the folders."""

LINE_EVERY = 60.0
"""Seconds between lines where there is no terminal and no training has ended."""


class Watch:
    """Trainings and steps done of all, and the time that is left, from the trainings' folders."""

    def __init__(self, standing: Standing) -> None:
        self.standing = standing
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(bar_width=None),
            progress.TaskProgressColumn(),
            progress.TextColumn("{task.fields[left]}", markup=False),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
            expand=True,
        )
        self._task = self._bar.add_task("starting", total=standing.steps, left="")
        self._looked, self._said, self._words = 0.0, time.monotonic(), ""

    def __enter__(self) -> "Watch":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def __call__(self, workers: int) -> None:
        """Look, if some time has gone by since the last look."""
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        self.standing.refresh()
        standing = self.standing
        trainings = f"{standing.done} of {len(standing.places)} trainings"
        left = f"left: {standing.time_left(workers)}" if workers else "waiting for workers"
        made = standing.steps_made
        self._bar.update(self._task, description=trainings, completed=made, left=left)
        if self.console.is_terminal or (trainings == self._words and now - self._said < LINE_EVERY):
            return
        self._words, self._said = trainings, now
        self.console.print(f"{trainings}, {made} of {standing.steps} steps, {left}")
