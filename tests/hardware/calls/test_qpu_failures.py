"""The matrix of failures: what happens on the way to an answer, and that no job is paid twice.

Every row of the table in docs/failures.md is a row here. After each, the emulator's own account of
accepted jobs equals the journal's, and no label was accepted twice.
"""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile

import pytest
import torch
from _support.qpu_backends import accepted, backend_of, credentials_of, write_calibration

from qattn import problems
from qattn.backends import BackendStopped
from qattn.hardware.calls.journal import Journal
from qattn.hardware.calls.runner import RetryPolicy
from qattn.hardware.emulator import EmulatedQPU

pytestmark = pytest.mark.usefixtures("packings_are_kept")

BATCH = problems.synthetic(40, 5, field_sd=0.4, coupling_sd=0.3, seed=3)


@pytest.fixture
def qpu():
    with EmulatedQPU(shape=(3, 4), default_wait=0.05) as running:
        yield running


def check_accounts(qpu, journal_folder, *, repeated=0):
    """The emulator's count of accepted jobs is the journal's; no job was accepted twice."""
    journal = Journal(journal_folder, read_only=True)
    labels = [job.label for job in qpu.jobs]
    assert accepted(journal) == len(labels)
    assert len(set(labels)) == len(labels)
    assert len(labels) == len(journal.jobs) + repeated
    answered = [job for job in journal.jobs.values() if job.status == "answered"]
    known = {job.id: job.access_time_us for job in qpu.jobs}
    for job in answered:
        assert job.timing["qpu_access_time"] == pytest.approx(known[job.problem_id])
        assert journal.answer(job.name).spins.shape[0] == job.num_reads
    return journal


GOES_ON = {
    "429 to a submission": [("submit", 429)],
    "429 to three submissions": [("submit", 429, 3)],
    "500 to a submission": [("submit", 500)],
    "503 to a submission": [("submit", 503, 2)],
    "502 after a submission was accepted": [("submit", "502-after")],
    "connection dropped before a submission": [("submit", "drop")],
    "connection dropped after a submission": [("submit", "drop-after")],
    "submission's response has another version": [("submit", "version")],
    "submission's response is cut off": [("submit", "truncated")],
    "submission's response is garbage": [("submit", "corrupt")],
    "label look-up fails too": [("submit", "drop-after"), ("list", 503), ("list", "drop")],
    "429 to a poll": [("poll", 429)],
    "500 to a poll": [("poll", 500, 2)],
    "connection dropped at a poll": [("poll", "drop", 2)],
    "poll's response is garbage": [("poll", "corrupt")],
    "429 to the answer": [("answer", 429)],
    "503 to the answer": [("answer", 503)],
    "connection dropped at the answer": [("answer", "drop-after")],
    "answer is cut off": [("answer", "truncated")],
    "answer is garbage": [("answer", "corrupt")],
    "answer's reads are garbage": [("answer", "corrupt-answer")],
    "answer has another version": [("answer", "version")],
    "completed without an answer, for a while": [("answer", "no-answer", 3)],
    "listing lags behind a lost response": [("submit", "502-after"), ("job", "list-lag")],
    "job unknown for once": [("poll", 404)],
    "slow answer": [("answer", "slow")],
    "job waits": [("job", "pending")],
}


@pytest.mark.parametrize("row", GOES_ON)
def test_run_goes_on(qpu, tmp_path, row):
    for where, kind, *times in GOES_ON[row]:
        qpu.fault(where, kind, times=times[0] if times else 1, seconds=0.3)
    backend = backend_of(qpu, tmp_path, max_in_flight=2)
    samples = backend.sample(BATCH, num_reads=20, seed=1)
    folder = backend.session.journal.folder
    spent = backend.metrics()["qpu_seconds"]
    backend.close()
    assert bool((samples.spins != 0).all())
    check_accounts(qpu, folder)
    assert spent == pytest.approx(qpu.access_time_us * 1e-6)


STOPS = {
    "401 to a submission": ([("submit", 401)], "did not accept a job"),
    "400 to a submission": ([("submit", 400)], "did not accept a job"),
    "job refused": ([("job", "rejected")], "did not accept a job.*insufficient"),
    "submissions fail for ever": ([("submit", 500, 99)], "has not responded"),
    "401 to a poll": ([("poll", 401)], "cannot be fetched"),
    "polls fail for ever": ([("poll", 500, 999)], "cannot be fetched"),
    "completed without an answer, for ever": ([("answer", "no-answer", 999)], "cannot be fetched"),
    "job waits too long": ([("job", "pending", 1, 0, 3.0)], "is still"),
    "offline in mid-job": ([("job", "offline")], "went offline"),
    "job fails": ([("job", "failed")], "failed job"),
    "job is cancelled": ([("job", "cancelled")], "was cancelled"),
}


@pytest.mark.parametrize("row", STOPS)
def test_run_stops_with_a_line_and_goes_on_later(qpu, tmp_path, row):
    """The error is one line; afterwards the same journal has all that was answered, and goes on."""
    faults, line = STOPS[row]
    for where, kind, *rest in faults:
        times, after, seconds = (*rest, *(1, 0, 1.0)[len(rest) :])
        qpu.fault(where, kind, times=times, after=after, seconds=seconds)
    journal = tmp_path / "journal"
    impatient = RetryPolicy(0.02, 0.1, failing=0.6, unseen=0.2, queued=1.0, poll=0.5)
    backend = backend_of(qpu, tmp_path, journal=journal, retry_policy=impatient, max_in_flight=1)
    with pytest.raises(BackendStopped, match=line) as stopped:
        backend.sample(BATCH, num_reads=20, seed=1)
    backend.close()
    assert "\n" not in str(stopped.value)
    before = [job for job in qpu.jobs if job.times_answered]
    qpu.clear_faults()
    again = backend_of(qpu, tmp_path, journal=journal)
    samples = again.sample(BATCH, num_reads=20, seed=1)
    again.close()
    assert bool((samples.spins != 0).all())
    repeated = sum(job.status in ("FAILED", "CANCELLED") for job in qpu.jobs)
    check_accounts(qpu, journal, repeated=repeated)
    assert {job.id for job in before} <= {job.id for job in qpu.jobs}


def test_offline_at_selection(qpu, tmp_path):
    qpu.online = False
    with pytest.raises(BackendStopped, match=r"No solver at .* is online"):
        backend_of(qpu, tmp_path).open()


def test_token_rejected_at_selection(qpu, tmp_path):
    file = credentials_of(qpu, tmp_path)
    file.write_text(file.read_text().replace(qpu.token, "another-token-0123456789"))
    with pytest.raises(BackendStopped, match=r"rejected the token from") as stopped:
        backend_of(qpu, tmp_path).open()
    assert "another-token" not in str(stopped.value)


def test_service_unreachable(tmp_path):
    with EmulatedQPU(shape=(3, 4)) as qpu:
        backend = backend_of(qpu, tmp_path)
    with pytest.raises(BackendStopped, match="cannot be used"):
        backend.open()


def test_cache_of_oceans_client_cannot_be_written(tmp_path, monkeypatch):
    """Not the service's fault: the cache and the way out are named."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nocache")
    with EmulatedQPU(shape=(3, 4)) as qpu:
        backend = backend_of(qpu, tmp_path)
        with pytest.raises(BackendStopped, match="cannot write its cache in /proc/nocache") as stop:
            backend.open()
    assert "set XDG_CACHE_HOME" in str(stop.value)
    assert "The service" not in str(stop.value)


class TestFailover:
    """Another solver of the same features, only if the user asked for it."""

    @pytest.fixture
    def two(self):
        with EmulatedQPU(shape=(3, 4), spare=True) as running:
            yield running

    def test_not_unless_asked(self, two, tmp_path):
        two.fault("job", "offline", after=1)
        backend = backend_of(two, tmp_path, solver={"topology__type": "zephyr"}, max_in_flight=1)
        with pytest.raises(BackendStopped, match="went offline"):
            backend.sample(BATCH, num_reads=20, seed=1)
        backend.close()

    def test_the_rest_goes_to_the_other(self, two, tmp_path):
        """What was answered stays; with the calibration of the other solver, not of the first."""
        folder = tmp_path / "calibrations"
        folder.mkdir()
        write_calibration(two, folder / "1.toml")
        write_calibration(two, folder / "2.toml", f"{two.name}_spare", 6.0)
        two.fault("job", "offline", after=1)
        backend = backend_of(
            two,
            tmp_path,
            solver={"topology__type": "zephyr"},
            failover=True,
            max_in_flight=1,
            betas=None,
            annealing_time=None,
            calibration=folder,
        )
        samples = backend.sample(BATCH, num_reads=20, seed=1)
        journal = check_accounts(two, backend.session.journal.folder, repeated=0)
        assert backend.session.settings.annealing_time == 6.0
        backend.close()
        assert bool((samples.spins != 0).all())
        solvers = [job.solver for job in journal.jobs.values() if job.status == "answered"]
        assert solvers[0] == two.name
        assert solvers[-1] == f"{two.name}_spare"

    def test_without_its_calibration_the_run_stops(self, two, tmp_path):
        write_calibration(two, tmp_path / "first.toml")
        two.fault("job", "offline")
        backend = backend_of(
            two,
            tmp_path,
            solver={"topology__type": "zephyr"},
            failover=True,
            betas=None,
            annealing_time=None,
            calibration=tmp_path / "first.toml",
        )
        with pytest.raises(BackendStopped, match=r"went offline.*calibration of"):
            backend.sample(BATCH, num_reads=20, seed=1)
        backend.close()


TRAIN = """
import sys
from qattn.cli.app import main
sys.argv = ["qattn", *{arguments!r}]
main()
"""

ARGUMENTS = (
    *("train", "--task", "brackets", "--context", "4", "--layers", "1", "--heads", "1"),
    *("--width", "8", "--batch-size", "4", "--steps", "6", "--num-reads", "10"),
    *("--log-every", "1", "--eval-every", "6", "--threads", "1"),
)


class Training:
    """A training in another process, as a user starts it."""

    def __init__(self, qpu, folder):
        self.qpu, self.folder = qpu, folder
        self.out = folder / "run"
        calibration = folder / "calibration.toml"
        write_calibration(qpu, calibration)
        self.arguments = [
            *ARGUMENTS,
            *("--sampler", "dwave"),
            *("--calibration", str(calibration)),
            *("--credentials", str(credentials_of(qpu, folder))),
        ]

    def start(self, *more):
        code = TRAIN.format(arguments=[*self.arguments, "--out", str(self.out), *more])
        return self._process(code)

    def resume(self, *more):
        code = TRAIN.format(arguments=["train", "--resume", str(self.out), *more])
        return self._process(code)

    def _process(self, code):
        return subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def weights(self, out=None):
        state = torch.load((out or self.out) / "checkpoint.pt", weights_only=True)
        return state["learner"]["parameters"]


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["submitted", "accepted"])
def test_killed_between_submission_and_answer(qpu, tmp_path, moment):
    """Kill -9 while the third job's id is on its way, or while it waits; then resume, and replay.

    The resumed run picks the job up, and a replay of the whole journal gives its weights to the
    bit: what the killed process had paid for was used.
    """
    if moment == "submitted":
        qpu.fault("submit", "slow", after=2, seconds=60.0)  # accepted, but the process never hears
    else:
        qpu.fault("job", "pending", after=2, seconds=4.0)
    training = Training(qpu, tmp_path)
    process = training.start("--checkpoint-every", "1")
    deadline = time.monotonic() + 300
    journal_file = training.out / "journal" / "journal.jsonl"
    while len(qpu.jobs) < 3 or (
        moment == "accepted" and journal_file.read_text().count('"event": "accepted"') < 3
    ):
        assert time.monotonic() < deadline, process.communicate()[0]
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    jobs = Journal(training.out / "journal", read_only=True).jobs
    assert [job.status for job in jobs.values()][:3] == ["answered", "answered", moment]
    qpu.clear_faults()
    process = training.resume()
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    check_accounts(qpu, training.out / "journal")
    jobs_of_the_run = len(qpu.jobs)

    replayed = tmp_path / "replayed"
    again = ("--sampler", "replay", "--journal", str(training.out), "--out", str(replayed))
    process = training._process(TRAIN.format(arguments=[*ARGUMENTS, *again]))
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert len(qpu.jobs) == jobs_of_the_run
    expected = training.weights()
    for name, value in training.weights(replayed).items():
        assert torch.equal(value, expected[name])


@pytest.mark.slow
def test_budget_stops_a_training_with_a_checkpoint(qpu, tmp_path):
    """The ceiling holds, the line says what was spent, and a higher ceiling goes on."""
    training = Training(qpu, tmp_path)
    process = training.start("--qpu-budget", "30ms")
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "QPU budget of 30 ms" in output
    assert "spent" in output
    assert "checkpoint written" in output
    assert qpu.access_time_us * 1e-6 <= 0.03
    assert (training.out / "checkpoint.pt").is_file()
    lines = (training.out / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in lines]
    assert 0 < steps[-1]["qpu_seconds"] <= 0.03
    process = training.resume("--qpu-budget", "10s")
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    summary = json.loads((training.out / "summary.json").read_text())
    assert summary["qpu_seconds"] == pytest.approx(qpu.access_time_us * 1e-6)
    assert (summary["solver"], summary["emulated"]) == (qpu.name, True)
    assert summary["qpu_seconds_left"] == pytest.approx(10 - summary["qpu_seconds"])
    check_accounts(qpu, training.out / "journal")


@pytest.mark.slow
@pytest.mark.parametrize("fault", [None, ("submit", 401), ("submit", "drop-after")])
def test_token_is_in_nothing_that_a_run_writes(qpu, tmp_path, fault):
    """The run's folder, its output at every log level, and what it pickles."""
    if fault is not None:
        qpu.fault(*fault, after=2)
    training = Training(qpu, tmp_path)
    code = (
        "import logging; logging.basicConfig(level=1); "
        "import dwave.cloud; logging.getLogger('dwave.cloud').setLevel(1)\n"
    )
    code += TRAIN.format(arguments=[*training.arguments, "--out", str(training.out)])
    process = training._process(code)
    output, _ = process.communicate(timeout=600)
    assert (process.returncode == 0) == (fault is None or fault[1] != 401), output
    assert "send(method=" in output  # the client did log its requests
    assert qpu.token not in output
    files = [path for path in training.out.rglob("*") if path.is_file()]
    assert any(path.suffix == ".npz" for path in files)
    for path in files:
        content = path.read_bytes()
        assert qpu.token.encode() not in content, path
        if path.suffix in (".npz", ".pt"):
            with zipfile.ZipFile(path) as archive:
                for member in archive.namelist():
                    assert qpu.token.encode() not in archive.read(member), (path, member)
