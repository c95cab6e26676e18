"""The emulator's account of its jobs as a file."""

import json
import os
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qattn.hardware.emulator.jobs import JobRecord


def account(solver: str, jobs: list[JobRecord]) -> dict[str, Any]:
    """Jobs and QPU access time as plain values; no token."""
    return {
        "solver": solver,
        "emulated": True,
        "access_time_us": sum((job.access_time_us for job in jobs), 0.0),
        "jobs": [asdict(job) for job in jobs],
    }


def account_writer(
    file: Path, solver: str, records: Callable[[], list[JobRecord]]
) -> Callable[[], None]:
    """A function that brings the file up to date, so that a reader never sees half of it."""
    lock = threading.Lock()

    def write() -> None:
        with lock:
            part = file.with_name(file.name + ".part")
            part.write_text(json.dumps(account(solver, records()), indent=1), encoding="utf-8")
            os.replace(part, file)

    return write
