"""The journal: what is on the disk at every moment, and what it says after a crash."""

import errno
import json
import os
import stat

import numpy as np
import pytest

from qattn.backends import BackendStopped
from qattn.hardware.calls import event_log
from qattn.hardware.calls.event_log import JournalUnwritable
from qattn.hardware.calls.journal import Journal, JournalInUse, call_name, request_digest
from qattn.hardware.calls.records import JobRecord
from qattn.hardware.service.solver_api import RawAnswer

SETTINGS = {"annealing_time": 5.0, "field_encoding": "ghost"}


def planned(journal, name="", part=0):
    call = journal.find("digest", SETTINGS) or journal.add_call(
        "digest", SETTINGS, {"solver": "S"}, {"h": np.zeros((1, 2, 3))}
    )
    record = JobRecord(name or f"{call.name}-{part}", call.name, part, 10, "packing", "S", "graph")
    return journal.add_job(record, {"problem": np.arange(2)})


def answer(reads=10, qubits=9):
    rng = np.random.default_rng(3)
    spins = 2 * rng.integers(0, 2, (reads, qubits), dtype=np.int8) - 1
    return RawAnswer(np.arange(5, 5 + qubits, dtype=np.int32), spins, {"qpu_access_time": 2e4})


def reopened(journal):
    journal.close()
    return Journal(journal.folder)


def test_folder_is_made_at_the_first_event(tmp_path):
    journal = Journal(tmp_path / "a" / "journal")
    assert not journal.folder.exists()
    planned(journal)
    assert journal.events_file.is_file()


def test_answer_survives_to_the_bit(tmp_path):
    journal = Journal(tmp_path)
    job = planned(journal)
    journal.submitting(job.name, "label", 0.03)
    journal.accepted(job.name, "id-1")
    sent = answer()
    journal.answered(job.name, sent)
    journal = reopened(journal)
    found = journal.answer(job.name)
    assert np.array_equal(found.spins, sent.spins)
    assert found.spins.dtype == np.int8
    assert np.array_equal(found.qubits, sent.qubits)
    assert found.timing == sent.timing
    assert journal.jobs[job.name].status == "answered"
    assert sum(job.access_time for job in journal.jobs.values()) == pytest.approx(0.02)


def test_every_state_is_found_again(tmp_path):
    journal = Journal(tmp_path)
    for name in ("planned", "submitted", "accepted", "rejected", "failed", "cancelled"):
        planned(journal, name)
    for name in ("submitted", "accepted", "rejected", "failed", "cancelled"):
        journal.submitting(name, f"label of {name}", 0.5)
    for name in ("accepted", "failed", "cancelled"):
        journal.accepted(name, f"id of {name}")
    journal.rejected("rejected", "too busy")
    journal.ended("failed", "broken", charged=True)
    journal.ended("cancelled", "by somebody", charged=False)
    found = reopened(journal).jobs
    assert {name: job.status for name, job in found.items()} == {
        "planned": "planned",
        "submitted": "submitted",
        "accepted": "accepted",
        "rejected": "planned",
        "failed": "ended",
        "cancelled": "ended",
    }
    assert found["accepted"].problem_id == "id of accepted"
    assert found["submitted"].label == "label of submitted"
    assert found["failed"].message == "broken"
    # What may have run counts: submitted, accepted, failed.
    assert sum(job.access_time for job in journal.jobs.values()) == pytest.approx(1.5)
    assert journal.calls.resolved_access_time == pytest.approx(0.5)


def test_torn_last_line_is_dropped_and_others_are_refused(tmp_path):
    journal = Journal(tmp_path)
    job = planned(journal)
    journal.submitting(job.name, "label", 0.1)
    journal.close()
    whole = journal.events_file.read_text()
    journal.events_file.write_text(whole + '{"event": "accepted", "job": "jo')
    again = Journal(tmp_path)
    assert again.jobs[job.name].status == "submitted"
    again.accepted(job.name, "id")
    again = reopened(again)
    assert again.jobs[job.name].problem_id == "id"
    again.close()
    journal.events_file.write_text("not an event\n" + whole)
    with pytest.raises(ValueError, match=r"Line 1 of .* delete that line, and resume"):
        Journal(tmp_path)


def test_other_format_is_refused(tmp_path):
    (tmp_path / "journal.jsonl").write_text('{"event": "journal", "format": 99, "id": "x"}\n')
    with pytest.raises(ValueError, match="format 99"):
        Journal(tmp_path)


def test_one_writer_at_a_time(tmp_path):
    journal = Journal(tmp_path)
    planned(journal)
    with pytest.raises(JournalInUse, match="Another process writes"):
        Journal(tmp_path)
    reader = Journal(tmp_path, read_only=True)
    assert reader.jobs.keys() == journal.jobs.keys()
    with pytest.raises(RuntimeError, match="reading only"):
        reader.rejected("job-0", "why")
    journal.close()
    Journal(tmp_path).close()


def test_reading_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no journal"):
        Journal(tmp_path / "nothing", read_only=True)
    journal = Journal(tmp_path)
    job = planned(journal)
    with pytest.raises(FileNotFoundError, match="lacks its file"):
        journal.answer(job.name)


def test_every_event_is_one_line_of_json_with_a_time(tmp_path):
    journal = Journal(tmp_path)
    job = planned(journal)
    journal.submitting(job.name, "label", 0.1)
    events = [json.loads(line) for line in journal.events_file.read_text().splitlines()]
    assert [event["event"] for event in events] == ["journal", "call", "job", "submit"]
    assert all(event["time"].endswith("+00:00") for event in events)


def test_digest_tells_requests_apart():
    h, J, lengths = np.ones((1, 2, 3)), np.zeros((1, 3, 3)), np.array([[3, 2]])
    base = request_digest(h, J, lengths, 10, 1)
    assert base == request_digest(h.astype(np.float32), J, lengths.astype(np.int32), 10, 1)
    others = {
        request_digest(-h, J, lengths, 10, 1),
        request_digest(h, J + 1, lengths, 10, 1),
        request_digest(h, J, lengths[:, ::-1], 10, 1),
        request_digest(h, J, lengths, 11, 1),
        request_digest(h, J, lengths, 10, 2),
        request_digest(h.reshape(2, 1, 3), J, lengths, 10, 1),
    }
    assert len(others | {base}) == 7
    assert call_name(base, {"a": 1, "b": 2}) == call_name(base, {"b": 2, "a": 1})
    assert call_name(base, {"a": 1}) != call_name(base, {"a": 2})


def events_of(journal):
    return [json.loads(line)["event"] for line in journal.events_file.read_text().splitlines()]


def test_a_submission_in_doubt_stays_charged(tmp_path):
    """Unseen, sent again and answered: both count, until the first is known."""
    journal = Journal(tmp_path)
    job = planned(journal)
    journal.submitting(job.name, "label", 0.5)
    journal.unseen(job.name, "not listed")
    assert (job.status, job.access_time) == ("planned", 0.5)
    journal.submitting(job.name, "label-r2", 0.3)
    journal.accepted(job.name, "id-2")
    journal = reopened(journal)
    job = journal.jobs[job.name]
    assert [sent.label for sent in job.sent] == ["label", "label-r2"]
    assert [sent.label for sent in job.doubtful] == ["label"]
    assert (journal.calls.resolved_access_time, job.access_time) == (0.0, pytest.approx(0.8))
    journal.answered(job.name, answer())  # 0.02 s
    journal = reopened(journal)
    job = journal.jobs[job.name]
    assert journal.calls.resolved_access_time == pytest.approx(0.02)
    assert job.access_time == pytest.approx(0.52)
    journal.duplicate(job.name, "label", "id-1", "COMPLETED", 0.04)
    journal = reopened(journal)
    job = journal.jobs[job.name]
    assert job.doubtful == []
    assert journal.calls.resolved_access_time == job.access_time == pytest.approx(0.06)


def test_the_first_may_turn_up_before_the_second_is_answered(tmp_path):
    journal = Journal(tmp_path)
    job = planned(journal)
    journal.submitting(job.name, "label", 0.5)
    journal.unseen(job.name, "not listed")
    journal.submitting(job.name, "label-r2", 0.3)
    journal.accepted(job.name, "id-2")
    journal.accepted(job.name, "id-1", "label")
    assert (job.status, job.label, job.problem_id) == ("accepted", "label", "id-1")
    assert [(sent.label, sent.problem_id) for sent in job.doubtful] == [("label-r2", "id-2")]


def test_the_first_format_is_read(tmp_path):
    """Its resends have the label of the first, and "rejected" is all that is said of those."""
    journal = Journal(tmp_path)
    job = planned(journal)
    for _ in "ab":
        journal.submitting(job.name, "label", 0.5)
        journal.rejected(job.name, "no job of its label at the service")
    journal.submitting(job.name, "label", 0.4)
    journal.close()
    text = journal.events_file.read_text().replace('"format": 2', '"format": 1')
    journal.events_file.write_text(text)
    journal = Journal(tmp_path)
    job = journal.jobs[job.name]
    assert (job.status, job.label, job.access_time) == ("submitted", "label", 0.4)
    journal.accepted(job.name, "id")
    journal.answered(job.name, answer())
    assert reopened(journal).calls.resolved_access_time == pytest.approx(0.02)


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EMFILE])
def test_an_event_that_cannot_be_written_leaves_no_trace(tmp_path, monkeypatch, number, torn):
    """Half a line is taken back, and no event follows it; afterwards the journal is as before."""
    journal = Journal(tmp_path)
    job = planned(journal)
    before = journal.events_file.read_bytes()
    write = os.write

    def failing(file, line):
        if torn:
            return write(file, line[: len(line) // 2])
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(event_log.os, "write", failing)
    with pytest.raises(BackendStopped, match=r"cannot be written to: .*\. .*and resume"):
        journal.submitting(job.name, "label", 0.1)
    monkeypatch.undo()
    assert journal.events_file.read_bytes() == before
    with pytest.raises(JournalUnwritable):
        journal.submitting(job.name, "label", 0.1)
    assert journal.events_file.read_bytes() == before
    journal = reopened(journal)
    assert journal.jobs[job.name].status == "planned"
    journal.submitting(job.name, "label", 0.1)


def test_arrays_that_cannot_be_written_stop_with_a_line(tmp_path, monkeypatch):
    journal = Journal(tmp_path)
    job = planned(journal)
    journal.submitting(job.name, "label", 0.1)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(JournalUnwritable, match="No space left"):
        journal.answered(job.name, answer())
    monkeypatch.undo()
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("garbage", [bytes(300) + b"\n", b"\xff\xfe\n{}\n", b'[1]\n{"event'])
def test_garbage_at_the_end_is_dropped_with_a_warning(tmp_path, caplog, garbage):
    journal = Journal(tmp_path)
    job = planned(journal)
    journal.submitting(job.name, "label", 0.1)
    journal.close()
    whole = journal.events_file.read_bytes()
    journal.events_file.write_bytes(whole + garbage)
    assert Journal(tmp_path, read_only=True).jobs[job.name].status == "submitted"
    assert journal.events_file.read_bytes() == whole + garbage
    caplog.clear()
    journal = Journal(tmp_path)
    assert "damaged lines" in caplog.text
    assert journal.jobs[job.name].status == "submitted"
    assert journal.events_file.read_bytes() == whole
    assert (tmp_path / "journal.jsonl.damaged").read_bytes() == whole + garbage
    journal.accepted(job.name, "id")
    assert reopened(journal).jobs[job.name].problem_id == "id"


def test_a_glued_line_says_the_way_out_and_it_works(tmp_path):
    """Half a line with an event behind it, and more events: as said, the line is deleted."""
    journal = Journal(tmp_path)
    job = planned(journal)
    journal.submitting(job.name, "label", 0.1)
    journal.accepted(job.name, "id")
    journal.answered(job.name, answer())
    journal.close()
    lines = journal.events_file.read_bytes().splitlines(keepends=True)
    damaged = [*lines[:-2], b'{"event": "acc' + lines[-2], lines[-1]]
    journal.events_file.write_bytes(b"".join(damaged))
    for read_only in (True, False):
        with pytest.raises(ValueError, match=rf"Line {len(lines) - 1} of .* delete that line"):
            Journal(tmp_path, read_only=read_only)
    journal.events_file.write_bytes(
        b"".join(
            line
            for line in damaged
            if b'"acc{' not in line and not line.startswith(b'{"event": "acc{')
        )
    )
    journal = Journal(tmp_path)
    assert journal.jobs[job.name].status == "answered"
    assert journal.answer(job.name).spins.shape == (10, 9)


def test_an_empty_file_gets_its_header(tmp_path):
    (tmp_path / "journal.jsonl").touch()
    journal = Journal(tmp_path)
    planned(journal)
    assert events_of(journal)[0] == "journal"
    assert journal.id
    assert reopened(journal).id == journal.id


def test_what_another_run_wrote_meanwhile_is_read(tmp_path):
    """Two runs of one folder: the first ends before the second's first event."""
    first, second = Journal(tmp_path / "j"), Journal(tmp_path / "j")
    job = planned(first)
    first.submitting(job.name, "label", 0.1)
    with pytest.raises(JournalInUse):
        second.acquire()
    first.close()
    assert second.acquire() is True
    assert second.acquire() is False
    assert (second.id, second.jobs[job.name].status) == (first.id, "submitted")
    second.accepted(job.name, "id")
    assert events_of(second).count("journal") == 1


def test_nothing_is_written_after_the_end(tmp_path):
    """A thread that comes home late does not take the journal again."""
    journal = Journal(tmp_path)
    job = planned(journal)
    journal.close()
    size = journal.events_file.stat().st_size
    with pytest.raises(BackendStopped, match="closed"):
        journal.submitting(job.name, "label", 0.1)
    Journal(tmp_path).close()
    assert journal.events_file.stat().st_size == size


def test_a_journal_is_its_owners(tmp_path):
    """Its events and arrays tell of the user's data; whatever the process's mask."""
    mask = os.umask(0)
    try:
        journal = Journal(tmp_path / "a" / "journal")
        job = planned(journal)
        journal.submitting(job.name, "label", 0.1)
        journal.answered(job.name, answer())
        journal.close()
    finally:
        os.umask(mask)
    for path in [journal.folder, *journal.folder.rglob("*")]:
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_names_are_on_the_disk(tmp_path, monkeypatch):
    """Whatever gets a name, the folder that holds the name is flushed before the next event."""
    flushed, fsync = [], os.fsync

    def noting(descriptor):
        flushed.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    journal = Journal(tmp_path / "journal")
    job = planned(journal)
    folder, events = str(journal.folder), str(journal.events_file)

    def of_arrays(kind, name):
        return [folder, f"{folder}/{kind}/{name}.npz.partial", f"{folder}/{kind}", events]

    started = [str(tmp_path), folder, events]  # the journal's folder, and its file with a header
    assert flushed == started + of_arrays("calls", job.call) + of_arrays("jobs", job.name)
    journal.submitting(job.name, "label", 0.1)
    flushed.clear()
    journal.answered(job.name, answer())
    assert flushed == of_arrays("answers", job.name)
    flushed.clear()
    journal.store_reads(job.name, answer())  # into a folder that is there
    assert flushed == of_arrays("answers", job.name)[1:-1]
