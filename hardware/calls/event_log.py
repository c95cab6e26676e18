"""The file of a journal's events: whole lines only, on the disk before the next step is taken."""

import contextlib
import errno
import json
import logging
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from qattn._atomic import flush_folder, write_atomically
from qattn.backends.base import BackendStopped

log = logging.getLogger("qattn.hardware")

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
"""Permissions of what a journal holds: biases of problems are made from the user's data."""


Place = tuple[int, int]
"""Where lines of a file begin and end, in bytes."""


class JournalUnwritable(BackendStopped):
    """The journal cannot be written to: the disk is full, say, or no longer writable."""

    def __init__(self, folder: Path, error: OSError) -> None:
        super().__init__(
            f"The journal {folder} cannot be written to: {error.strerror or error}. What was "
            f"sent can be found again: make room, or make it writable, and resume."
        )


class EventLog:
    """A file of events, one JSON object a line.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None
        self._failed: JournalUnwritable | None = None
        self._lock = threading.Lock()

    def read(self, *, repair: bool) -> Iterator[tuple[int, Place, dict[str, Any]]]:
        """The events with the numbers of their lines and their places.

        A last line that was cut off is left out: nothing was done on it. So is whatever else at
        the end is no event, such as the zeros that a power failure leaves, with a warning.

        Args:
            repair: Take what is left out off the file; a copy of damaged lines is kept beside it.

        Raises:
            ValueError: Events follow a line that is not one.
            JournalUnwritable: It cannot be repaired.
        """
        good = end = 0
        left_out: list[bytes] = []
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                start, end = end, end + len(line)
                event = _event(line) if line.endswith(b"\n") else None
                if event is None:
                    left_out.append(line)
                    continue
                if left_out:
                    raise ValueError(
                        f"Line {number - len(left_out)} of {self.path} is damaged, and events "
                        f"follow it: keep a copy of the file, delete that line, and resume. A job "
                        f"whose event is lost is looked up at the service before anything is sent "
                        f"again."
                    )
                yield number, (start, end), event
                good = end
        whole = [line for line in left_out if line.endswith(b"\n")]
        damaged = b"".join(whole).strip()
        if damaged:
            log.warning(
                "%s ends with %d damaged lines, which are left out: what they said is looked up "
                "at the service.",
                self.path,
                len(whole),
            )
        if repair and good < end:
            try:
                if damaged:
                    copy = self.path.with_name(self.path.name + ".damaged")
                    write_atomically(copy, self.path.read_bytes(), mode=PRIVATE_FILE)
                with self.path.open("r+b") as file:
                    file.truncate(good)
                    os.fsync(file.fileno())
            except OSError as error:
                raise JournalUnwritable(self.path.parent, error) from None

    def between(self, place: Place) -> list[dict[str, Any]]:
        """The events of a place; lines that are none are left out."""
        start, end = place
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                lines = file.read(end - start).splitlines()
        except OSError as error:
            raise JournalUnwritable(self.path.parent, error) from None
        return [event for event in map(_event, lines) if event is not None]

    def append(self, event: dict[str, Any]) -> Place:
        """Bring an event, with the time, to the disk; returns where it lies.

        Raises:
            JournalUnwritable: It could not be written, or an earlier one could not.
        """
        event["time"] = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self._lock:
            if self._failed is not None:
                raise self._failed
            try:
                return self._write(json.dumps(event).encode() + b"\n")
            except OSError as error:
                self._failed = JournalUnwritable(self.path.parent, error)
                raise self._failed from None

    def _write(self, line: bytes) -> Place:
        # The file stays open, so that neither a lack of file descriptors nor a lost permission
        # stops the events of jobs that were sent already.
        if self._file is None:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, PRIVATE_FILE)
            flush_folder(self.path.parent)
        size = os.fstat(self._file).st_size
        try:
            if os.write(self._file, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file)
        except OSError:
            with contextlib.suppress(OSError):  # half a line at the end is left out at the opening
                os.ftruncate(self._file, size)
            raise
        return size, size + len(line)

    def close(self) -> None:
        """Close the file; nothing is written to it afterwards."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None


def _event(line: bytes) -> dict[str, Any] | None:
    """The event of a line, or None if it is not one."""
    try:
        event = json.loads(line)
    except ValueError:  # not UTF-8, or no JSON
        return None
    return event if isinstance(event, dict) and "event" in event else None
