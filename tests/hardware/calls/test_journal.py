"""The journal: what is on the disk at every moment, and what it says after a crash."""

import json

import numpy as np
import pytest

from qattn.hardware.calls.journal import Journal, call_name, request_digest
from qattn.hardware.calls.records import JobRecord
from qattn.hardware.service.solver_api import RawAnswer

SETTINGS = {"annealing_time": 5.0, "field_encoding": "ghost"}


def planned(journal, name="job-0", part=0):
    call = journal.find("digest", SETTINGS) or journal.add_call(
        "digest", SETTINGS, {"solver": "S"}, {"h": np.zeros((1, 2, 3))}
    )
    record = JobRecord(name, call.name, part, 10, "packing", "S", "graph")
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
    assert journal.resolved_access_time == pytest.approx(0.5)


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
    with pytest.raises(ValueError, match="Line 1 of"):
        Journal(tmp_path)


def test_other_format_is_refused(tmp_path):
    (tmp_path / "journal.jsonl").write_text('{"event": "journal", "format": 99, "id": "x"}\n')
    with pytest.raises(ValueError, match="format 99"):
        Journal(tmp_path)


def test_one_writer_at_a_time(tmp_path):
    journal = Journal(tmp_path)
    planned(journal)
    with pytest.raises(RuntimeError, match="Another process writes"):
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
