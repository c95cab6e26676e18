"""How far a command is: a line that moves on a terminal, lines elsewhere; never silent."""

import threading
import time
from collections.abc import Callable

from rich import progress
from rich.console import Console
from rich.table import Column

HEARTBEAT = 1.5
"""Seconds after which a line is written again where there is no terminal."""


class Stages:
    """The stages of a command's work, shown on standard error.

    On a terminal, one line, cut to its width, that moves. Elsewhere a line every :data:`HEARTBEAT`
    seconds, and one when a stage begins where their number is known.

    Args:
        total: Number of stages; None where they are not counted.
        spent: What has been spent so far in words, asked for whenever something is shown.
        quiet: Show nothing.
    """

    def __init__(
        self,
        total: int | None = None,
        *,
        spent: Callable[[], str] = lambda: "",
        quiet: bool = False,
    ) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self.total, self.begun, self.spent = total, 0, spent
        self.stage, self.start = "starting", time.monotonic()
        bar = (progress.BarColumn(bar_width=20), progress.MofNCompleteColumn())
        one_line = Column(no_wrap=True, overflow="ellipsis")
        self._bar = progress.Progress(
            *((progress.SpinnerColumn(),) if total is None else bar),
            progress.TimeElapsedColumn(),
            progress.TextColumn("{task.description}", markup=False, table_column=one_line),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal or quiet,
        )
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="progress", daemon=True)

    def begin(self, stage: str) -> None:
        """The stages before this one are done."""
        self.begun, self.stage = self.begun + 1, stage
        if self.total is not None or self.console.is_terminal:
            self._show()

    def __enter__(self) -> "Stages":
        self._task = self._bar.add_task("", total=self.total)
        self._bar.start()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        self._bar.stop()

    def _show(self) -> None:
        words = ", ".join(filter(None, (self.stage, self.spent())))
        if self.console.is_terminal:
            self._bar.update(self._task, completed=max(self.begun - 1, 0), description=words)
        else:
            count = "" if self.total is None else f"{self.begun} of {self.total}, "
            seconds = time.monotonic() - self.start
            self.console.print(f"{count}{seconds:.0f} s: {words}", markup=False)

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT):
            self._show()
