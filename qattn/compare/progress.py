"""What a comparison is doing: a spinner on a terminal, lines through a pipe."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

HEARTBEAT = 1.5
"""Seconds after which something is written where there is no terminal."""


@contextmanager
def steps() -> Iterator[Callable[[str], None]]:
    """A function that says what is going on, on standard error.

    On a terminal: one line, cut to its width, with a spinner and the seconds since the beginning.
    Elsewhere: the newest text as a line, at most one every :data:`HEARTBEAT` seconds, and a dot
    where there is no new one, so that nothing is silent for longer.
    """
    console = Console(stderr=True)
    begun = time.monotonic()
    text, shown, done = "starting", "", threading.Event()

    def update(new: str) -> None:
        nonlocal text
        text = new

    def lines() -> None:
        nonlocal shown
        waiting = 0.2  # what ends at once needs no line
        while not done.wait(waiting):
            waiting = HEARTBEAT
            if text == shown:
                print(".", end="", file=sys.stderr, flush=True)
            else:
                new_line = "\n" if shown else ""
                shown = text
                print(f"{new_line}{shown}", end="", file=sys.stderr, flush=True)

    def spinner() -> None:
        with console.status("") as status:
            while not done.wait(0.1):
                line = f"{time.monotonic() - begun:.0f} s  {text}"
                status.update(line[: max(10, console.width - 4)].replace("[", r"\["))

    thread = threading.Thread(target=spinner if console.is_terminal else lines, daemon=True)
    thread.start()
    try:
        yield update
    finally:
        done.set()
        thread.join()
        if shown:
            print(file=sys.stderr)
