"""The dwave backend on an emulated QPU, for tests."""

import itertools
import json

import pytest

from qattn.hardware.calibration_file import DeviceCalibration, DevicePoint
from qattn.hardware.calls.runner import RetryPolicy
from qattn.hardware.dwave import DWaveBackend

HASTE = RetryPolicy(
    first_wait=0.02, longest_wait=0.1, failing=3.0, unseen=0.5, queued=20.0, poll=1.0
)
"""Short limits for a service at the other end of a loop."""

_numbers = itertools.count()


def backend_of(qpu, folder, **options):
    """A backend that knows the emulator's betas and keeps its journal in a new folder."""
    known = {
        "betas": (qpu.settings.beta_J, qpu.settings.beta_J),
        "annealing_time": 5.0,
        "journal": folder / f"journal-{next(_numbers)}",
        "credentials": credentials_of(qpu, folder),
        "retry_policy": HASTE,
        "follow_betas": False,
    }
    return DWaveBackend(**(known | options))


def credentials_of(qpu, folder):
    """A credentials.toml for the emulator."""
    file = folder / f"credentials-{qpu.endpoint.split(':')[2].split('/')[0]}.toml"
    if not file.exists():
        file.touch(mode=0o600)
        options = qpu.client_options
        lines = [f'{name} = "{options[name]}"' for name in ("token", "endpoint", "solver")]
        file.write_text("\n".join(["[dwave]", *lines]) + "\n")
    return file


def accepted(journal):
    """Number of jobs of the service that the journal knows."""
    return len(ids(journal))


def ids(journal):
    """Ids of the jobs that the service accepted, as far as the journal knows."""
    events = map(json.loads, journal.events_file.read_text().splitlines())
    return {event["problem_id"] for event in events if "problem_id" in event}


def check_no_second_is_lost(qpu, backend):
    """Each job of the account is in the journal, with its time, and in the budget.

    To be called before the backend is closed, when no submission is in doubt any more.
    """
    journal, budget = backend.session.journal, backend.session.budget
    assert ids(journal) == {job.id for job in qpu.jobs}
    charged = sum(job.access_time for job in journal.jobs.values())
    assert charged == pytest.approx(qpu.access_time_us * 1e-6)
    assert budget.spent == pytest.approx(charged)
    assert budget.reserved == 0


def write_calibration(qpu, file, solver=None, time=5.0):
    """A calibration file with the emulator's own betas."""
    beta = qpu.settings.beta_J
    covariance = ((1e-4, 0.0), (0.0, 1e-4))
    point = DevicePoint(time, "ghost", 2.0, beta, beta, covariance, 1.0, 1.0, 0.0, 40)
    made = "2026-01-01T00:00:00+00:00"
    solver = solver or qpu.name
    DeviceCalibration(solver, qpu.graph_id, True, made, (point,), 0, "for a test").save(file)
