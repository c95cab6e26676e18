"""No state of a journal or an answer stops every resume, and nothing is bought again unasked."""

import contextlib
import errno
import os

import pytest
import torch
from _support.qpu_backends import (
    backend_of,
    check_no_second_is_lost,
    credentials_of,
    write_calibration,
)

from qattn import problems
from qattn.backends import BackendStopped, get_backend
from qattn.hardware.calls.event_log import EventLog, JournalUnwritable
from qattn.hardware.calls.journal import Journal, JournalInUse
from qattn.hardware.emulator import EmulatedQPU
from qattn.training import TrainConfig, train
from qattn.training.folder import RunFolder
from qattn.training.loop import Interrupted

pytestmark = pytest.mark.usefixtures("packings_are_kept")

BATCH = problems.synthetic(4, 5, field_sd=0.4, coupling_sd=0.3, seed=3)
"""One job."""


@pytest.fixture
def qpu():
    with EmulatedQPU(shape=(3, 4)) as running:
        yield running


@pytest.fixture
def recorded(qpu, tmp_path):
    """A journal of one job, and its reads."""
    folder = tmp_path / "journal"
    backend = backend_of(qpu, tmp_path, journal=folder)
    samples = backend.sample(BATCH, num_reads=20, seed=1)
    backend.close()
    return folder, samples


def delete(path):
    path.unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


DAMAGES = [delete, cut, flip, empty]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_lost_answer_is_fetched_again_for_nothing(qpu, tmp_path, recorded, damage):
    folder, samples = recorded
    (file,) = (folder / "answers").iterdir()
    damage(file)
    replay = get_backend("replay", journal=folder)
    with pytest.raises(BackendStopped, match=r"its file answers/.*fetches answers again") as caught:
        replay.sample(BATCH, num_reads=20, seed=1)
    assert "\n" not in str(caught.value)
    backend = backend_of(qpu, tmp_path, journal=folder)
    again = backend.sample(BATCH, num_reads=20, seed=1)
    check_no_second_is_lost(qpu, backend)
    backend.close()
    assert torch.equal(again.spins, samples.spins)
    assert len(qpu.jobs) == 1
    assert torch.equal(replay.sample(BATCH, num_reads=20, seed=1).spins, samples.spins)


def test_a_lost_answer_that_the_service_lacks_too_is_sampled_anew(qpu, tmp_path, recorded):
    """It stays charged, and the new one is charged beside it."""
    folder, _ = recorded
    (file,) = (folder / "answers").iterdir()
    file.unlink()
    qpu.fault("answer", 410)
    backend = backend_of(qpu, tmp_path, journal=folder)
    samples = backend.sample(BATCH, num_reads=20, seed=1)
    assert bool((samples.spins != 0).all())
    assert len(qpu.jobs) == 2
    check_no_second_is_lost(qpu, backend)
    backend.close()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_lost_plan_costs_its_job(qpu, tmp_path, recorded, damage):
    folder, _ = recorded
    (file,) = (folder / "jobs").iterdir()
    damage(file)
    backend = backend_of(qpu, tmp_path, journal=folder)
    samples = backend.sample(BATCH, num_reads=20, seed=1)
    assert bool((samples.spins != 0).all())
    check_no_second_is_lost(qpu, backend)
    backend.close()
    again = backend_of(qpu, tmp_path, journal=folder)
    assert torch.equal(again.sample(BATCH, num_reads=20, seed=1).spins, samples.spins)
    again.close()
    assert len(qpu.jobs) == 2


def test_a_journal_without_its_first_lines_stops_with_a_way_out(qpu, tmp_path, recorded):
    folder, _ = recorded
    file = folder / "journal.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[2:]))
    with pytest.raises(ValueError, match=r"Line 1 of .* Choose another folder \(--journal\)"):
        Journal(folder)


def test_a_run_that_begins_after_another_ended_finds_its_reads(qpu, tmp_path):
    """Both opened the journal while it was not there; nothing is bought twice, and all counts."""
    folder = tmp_path / "journal"
    first, second = (backend_of(qpu, tmp_path, journal=folder, qpu_budget=10.0) for _ in "ab")
    first.open()
    second.open()
    samples = first.sample(BATCH, num_reads=20, seed=1)
    with pytest.raises(JournalInUse, match="Another process writes"):
        second.sample(BATCH, num_reads=20, seed=1)
    first.close()
    again = second.sample(BATCH, num_reads=20, seed=1)
    assert torch.equal(again.spins, samples.spins)
    check_no_second_is_lost(qpu, second)
    second.close()
    assert len(qpu.jobs) == 1


def test_a_disk_that_fills_up_stops_the_call_and_nothing_is_paid_twice(qpu, tmp_path, monkeypatch):
    """At whichever of its events a call is stopped, the next one goes on from there."""
    folder, fsync, stops = tmp_path / "journal", os.fsync, 0
    for allowed in range(0, 40, 2):
        left = [allowed]

        def failing(descriptor, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(28, os.strerror(28))
            fsync(descriptor)

        backend = backend_of(qpu, tmp_path, journal=folder)
        backend.open()
        stops += 1
        monkeypatch.setattr(os, "fsync", failing)
        with contextlib.suppress(JournalUnwritable):
            backend.sample(BATCH, num_reads=20, seed=1)
            stops -= 1
        monkeypatch.undo()
        if stops <= allowed // 2:  # this one was not stopped
            break
        backend.close()
    assert stops >= 4
    check_no_second_is_lost(qpu, backend)
    backend.close()
    assert len(qpu.jobs) == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EMFILE])
def test_a_training_stops_with_a_checkpoint_and_says_how_to_go_on(
    qpu, tmp_path, monkeypatch, number
):
    """At the third submission the journal cannot be written to; later the run goes on."""
    write_calibration(qpu, tmp_path / "calibration.toml")
    out, append = tmp_path / "run", EventLog._write
    config = TrainConfig(
        **{"task": "brackets", "context": 4, "layers": 1, "heads": 1, "width": 8},
        **{"batch_size": 4, "steps": 4, "num_reads": 10, "eval_every": 4, "threads": 1},
        sampler="dwave",
        calibration=str(tmp_path / "calibration.toml"),
        credentials=str(credentials_of(qpu, tmp_path)),
    )
    submitted = []

    def failing(self, line):
        if b'"submit"' in line:
            submitted.append(line)
            if len(submitted) == 3:
                raise OSError(number, os.strerror(number))
        return append(self, line)

    monkeypatch.setattr(EventLog, "_write", failing)
    with pytest.raises(Interrupted, match=r"cannot be written.* Continue with: qattn train"):
        train(config, out)
    assert (out / "checkpoint.pt").is_file()
    assert len(qpu.jobs) == 2
    summary = train(RunFolder(out).read_config(), out, resume=True)
    assert summary["steps"] == 4
    assert len(qpu.jobs) == 4
    assert summary["qpu_seconds"] == pytest.approx(qpu.access_time_us * 1e-6)
