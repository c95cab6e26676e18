"""Ctrl-C while a command is still being imported."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """Ctrl-C ends the process with a word and status 130.

    Not with KeyboardInterrupt: packages that are interrupted in mid-import turn it into errors of
    their own.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        os.write(2, b"Stopped by Ctrl-C before anything had begun.\n")
        os._exit(130)

    before = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
