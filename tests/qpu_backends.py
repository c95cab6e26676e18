"""The dwave backend on an emulated QPU, for tests."""

import itertools

from qattn.hardware.dwave import DWaveBackend
from qattn.hardware.jobs import Patience

HASTE = Patience(first_wait=0.02, longest_wait=0.1, failing=3.0, unseen=0.2, queued=20.0, poll=1.0)
"""Patience for a service at the other end of a loop."""

_numbers = itertools.count()


def backend_of(qpu, folder, **options):
    """A backend that knows the emulator's betas and keeps its journal in a new folder."""
    known = {
        "betas": (qpu.settings.beta_J, qpu.settings.beta_J),
        "annealing_time": 5.0,
        "journal": folder / f"journal-{next(_numbers)}",
        "credentials": credentials_of(qpu, folder),
        "patience": HASTE,
        "track": False,
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
    """Jobs that the journal knows to have been accepted."""
    events = journal.events_file.read_text().splitlines()
    return sum('"event": "accepted"' in line for line in events)
