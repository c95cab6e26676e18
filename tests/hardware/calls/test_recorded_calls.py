"""Finished calls are left to the journal's file: what stays in memory, and what is read again."""

import gc
import tracemalloc

import numpy as np
import pytest

from qattn.backends import BackendStopped
from qattn.hardware.calls.journal import Journal
from qattn.hardware.calls.records import JobRecord
from qattn.hardware.service.solver_api import RawAnswer

SETTINGS = {"annealing_time": 5.0, "field_encoding": "ghost", "chain_strength": 2.0}
DETAILS = {"solver": "S", "graph_id": "graph", "topology": {"type": "zephyr"}, "emulated": True}
READS = RawAnswer(
    np.arange(9, dtype=np.int32), np.ones((4, 9), np.int8), {"qpu_access_time": 2e4, "total": 3e4}
)


def call(journal, digest, jobs=2, answers=2):
    """A call of so many jobs, of which the first are answered; returns its record."""
    record = journal.add_call(digest, SETTINGS, DETAILS | {"beta_h": float(len(digest))}, {})
    for number in range(jobs):
        name = f"{record.name}-{number}"
        journal.add_job(JobRecord(name, record.name, number, 4, "packing", "S", "graph"), {})
        journal.submitting(name, f"qattn-{journal.id}-{name}", 0.04)
        journal.accepted(name, f"id-{name}")
    for number in range(answers):
        journal.answered(f"{record.name}-{number}", READS)
    return record


def test_a_finished_call_takes_a_few_hundred_bytes(tmp_path, monkeypatch):
    """About 300: a name and a place. The disk is not what is measured."""
    monkeypatch.setattr(Journal, "_write_arrays", lambda *_: None)
    monkeypatch.setattr("os.fsync", lambda _: None)
    journal, number = Journal(tmp_path), 200
    call(journal, "first")
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for index in range(number):
            call(journal, f"{index:064x}")
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(journal.calls) == number + 1
    assert (after - before) / number < 500


def test_a_finished_call_is_read_again_as_it_was(tmp_path):
    """Between its events lie those of another call, whose jobs have like names."""
    journal = Journal(tmp_path)
    first = call(journal, "a", answers=1)
    second = call(journal, "b")
    last = f"{first.name}-1"
    journal.answered(last, READS)
    expected = repr(first), repr(second)
    del first, second
    names = list(journal.calls)
    assert tuple(repr(journal.calls[name]) for name in names) == expected
    assert repr(journal.find("a", SETTINGS)) == expected[0]
    assert journal.find("c", SETTINGS) is None
    assert len(journal.jobs) == 4
    assert journal.answer(last).timing == READS.timing
    journal.close()
    again = Journal(tmp_path)
    assert tuple(repr(again.calls[name]) for name in names) == expected
    assert again.calls.resolved_access_time == pytest.approx(0.08)
    assert again.calls.worst_estimate == pytest.approx(0.5)


def test_events_of_a_finished_call_are_followed(tmp_path):
    """Its answer is lost, it counts as run, and another job takes its place."""
    journal = Journal(tmp_path)
    name = call(journal, "a", jobs=1, answers=1).name
    call(journal, "b")
    journal.ended(f"{name}-0", "its plan is lost", charged=True)
    in_use = journal.calls[name]
    journal.add_job(JobRecord(f"{name}-1", name, 0, 4, "packing", "S", "graph"), {})
    for records in (in_use, journal.calls[name]):
        assert [job.status for job in records.jobs] == ["ended", "planned"]
    assert [job.name for job in journal.calls.unfinished_jobs] == [f"{name}-0", f"{name}-1"]
    del in_use
    journal.close()
    again = Journal(tmp_path)
    assert [job.status for job in again.calls[name].jobs] == ["ended", "planned"]
    assert again.calls.resolved_access_time == pytest.approx(0.06)


def test_what_may_have_run_stays_in_memory(tmp_path):
    """An answered job with a submission in doubt is unfinished until that is settled."""
    journal = Journal(tmp_path)
    name = f"{call(journal, 'a', jobs=1, answers=0).name}-0"
    journal.unseen(name, "not listed")
    journal.submitting(name, "label-r2", 0.03)
    journal.accepted(name, "id-2")
    journal.answered(name, READS)
    (job,) = journal.calls.unfinished_jobs
    assert [sent.estimate for sent in job.doubtful] == [0.04]
    journal.duplicate(name, job.doubtful[0].label, "id-1", "COMPLETED", 0.01)
    assert journal.calls.unfinished_jobs == []
    assert journal.calls.resolved_access_time == pytest.approx(0.03)


def test_a_file_that_was_changed_is_not_taken_for_a_call_that_was_not_made(tmp_path):
    """Else the call would be bought again."""
    journal = Journal(tmp_path)
    call(journal, "a")
    journal.events_file.write_bytes(b"\n" * journal.events_file.stat().st_size)
    with pytest.raises(BackendStopped, match="changed while it was in use, and lacks call"):
        journal.find("a", SETTINGS)
    journal.events_file.unlink()
    with pytest.raises(BackendStopped, match="No such file"):
        journal.find("a", SETTINGS)
