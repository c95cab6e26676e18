"""Jobs as a solver takes them: reads within its limit, pauses, polls, and answers of any timing."""

import math
from pathlib import Path

import pytest
from _support.qpu_backends import backend_of, write_calibration

from qattn import problems
from qattn.hardware.emulator import EmulatedQPU, http
from qattn.hardware.emulator.physics.timing import readout_time
from qattn.hardware.service import solver_api
from qattn.hardware.service.credentials import Credentials
from qattn.hardware.service.device import connect
from qattn.hardware.service.secret import Secret
from qattn.hardware.settings import QPUSettings

pytestmark = pytest.mark.usefixtures("packings_are_kept")

BATCH = problems.synthetic(1, 3, field_sd=0.3, coupling_sd=0.2, seed=0)


def connected(qpu):
    return connect(Credentials(Secret(qpu.token), endpoint=qpu.endpoint))


@pytest.fixture(scope="module")
def pegasus():
    with EmulatedQPU(topology="pegasus", shape=(2,), default_wait=0.05) as running:
        yield running


@pytest.fixture
def qpu():
    with EmulatedQPU(shape=(1, 2), timing_spread=0.0, default_wait=0.05) as running:
        yield running


# --- reads within the limit on a job's duration


@pytest.mark.parametrize("pause", [0.0, 150.0])
@pytest.mark.parametrize("num_qubits", [1, 9, 40])
def test_most_reads_count_annealing_pause_and_readout(pegasus, num_qubits, pause):
    """(anneal + pause + read-out) × reads + thermalisation within the limit, and tightly."""
    device = connected(pegasus)
    params = {"annealing_time": 200.0, "readout_thermalization": pause}
    most = device.max_reads(num_qubits, params)
    device.close()
    timing = pegasus.properties["problem_timing_data"]
    each = 200.0 + pause + readout_time(timing, num_qubits)
    assert most * each + 1000.0 <= 1e6 < (most + 1) * each + 1000.0


def test_most_reads_of_short_anneals(pegasus):
    device = connected(pegasus)
    assert device.max_reads(1, {"annealing_time": 0.005}) == 10_000
    device.close()


def test_a_call_of_more_reads_than_one_job_may_have(pegasus, tmp_path):
    """Without read-out 4,900 reads at 200 µs are within the limit of a second; with it, refused."""
    backend = backend_of(
        pegasus, tmp_path, field_encoding="direct", annealing_time=200_000.0, betas=(9.0, 9.0)
    )
    before = len(pegasus.jobs)
    samples = backend.sample(BATCH, num_reads=4900, seed=0)
    backend.close()
    assert samples.num_reads == 4900
    jobs = pegasus.jobs[before:]
    assert [job.status for job in jobs] == ["COMPLETED"] * 2
    assert sum(job.num_reads for job in jobs) == 4900


# --- pauses


def test_pauses_are_sent_and_estimated(qpu, tmp_path):
    """Without a spread of its times, the emulator takes as long as the estimate says."""
    options = {"readout_thermalization": 30.0, "reduce_intersample_correlation": True}
    shortest, _ = qpu.properties["problem_timing_data"]["decorrelation_time_range"]
    assert shortest > 30.0
    for given, pause in (({}, 0.0), ({"readout_thermalization": 30.0}, 30.0), (options, shortest)):
        backend = backend_of(qpu, tmp_path, **given)
        backend.sample(BATCH, num_reads=100, seed=1)
        (record,) = backend.session.journal.jobs.values()
        backend.close()
        assert record.sent[0].estimate == pytest.approx(
            1e-6 * qpu.jobs[-1].access_time_us, rel=1e-4
        )
        assert record.timing["qpu_delay_time_per_sample"] == pytest.approx(
            qpu.properties["problem_timing_data"]["qpu_delay_time_per_sample"] + pause, rel=1e-3
        )


def test_pauses_that_the_solver_does_not_offer(qpu, tmp_path):
    with pytest.raises(ValueError, match="must not be negative, but is -1"):
        backend_of(qpu, tmp_path, readout_thermalization=-1.0)
    backend = backend_of(qpu, tmp_path, readout_thermalization=20_000.0)
    with pytest.raises(ValueError, match="must be between 0 and 10000 µs on Emulated"):
        backend.open()


def test_settings_without_pauses_are_written_as_before():
    """A journal finds its calls by these values."""
    plain = QPUSettings(5.0).to_dict()
    assert set(plain) == {
        *("annealing_time", "field_encoding", "chain_strength", "betas"),
        *("spin_reversal_transforms", "out_of_range"),
    }
    paused = QPUSettings(5.0, readout_thermalization=2.0, reduce_intersample_correlation=True)
    assert paused.to_dict() == plain | {
        "readout_thermalization": 2.0,
        "reduce_intersample_correlation": True,
    }
    assert QPUSettings(**paused.to_dict() | {"betas": (1.0, 1.0)}) == paused


# --- requests and answers


@pytest.mark.parametrize("wait", [0.0, 0.3, 0.5, 1.7, 29.6, 31.0, 3600.0])
def test_a_poll_asks_for_an_integer_from_1_to_30(qpu, tmp_path, wait):
    """The service, and the emulator, answer 400 to anything else."""
    backend = backend_of(qpu, tmp_path)
    backend.sample(BATCH, num_reads=2, seed=0)
    service = backend.session.device.service
    assert service.status(qpu.jobs[-1].id, wait).status == "COMPLETED"
    backend.close()


@pytest.mark.parametrize(
    "timing",
    [
        {"warnings": [], "nested": {"run_time": 1.0}, "absent": None, "text": "5", "flag": True},
        None,
        [],
        "none",
    ],
)
def test_answers_with_other_timing_are_read(qpu, tmp_path, monkeypatch, timing):
    encode = solver_api._decoded

    def with_other_timing(message):
        known = message["answer"]["timing"]
        message["answer"]["timing"] = known | timing if isinstance(timing, dict) else timing
        return encode(message)

    monkeypatch.setattr(solver_api, "_decoded", with_other_timing)
    backend = backend_of(qpu, tmp_path)
    samples = backend.sample(BATCH, num_reads=3, seed=0)
    (record,) = backend.session.journal.jobs.values()
    backend.close()
    assert samples.num_reads == 3
    assert all(isinstance(value, float) for value in record.timing.values())
    assert "qpu_access_time" in record.timing or not isinstance(timing, dict)
    assert math.isfinite(samples.info["qpu_access_seconds"])


@pytest.mark.parametrize("status", ["COMPLETED", "IN_PROGRESS"])
def test_a_submission_that_is_answered_at_once(qpu, tmp_path, monkeypatch, status):
    """D-Wave's examples of responses have these states, COMPLETED together with the answer."""
    submit = qpu._api.submit

    def at_once(requests):
        items = submit(requests)
        qpu._api.poll([item["id"] for item in items], 20.0)
        return [item | {"status": status, "answer": {"format": "qp"}} for item in items]

    monkeypatch.setattr(qpu._api, "submit", at_once)
    backend = backend_of(qpu, tmp_path)
    assert backend.sample(BATCH, num_reads=3, seed=0).num_reads == 3
    backend.close()
    assert len(qpu.jobs) == 1


@pytest.mark.parametrize("compressed", [True, False])
def test_bodies_are_compressed_if_oceans_configuration_says_so(
    qpu, tmp_path, monkeypatch, compressed
):
    inflated = []
    inflate = http._inflated
    monkeypatch.setattr(http, "_inflated", lambda *body: (inflated.append(1), inflate(*body))[1])
    Path("dwave.conf").write_text(f"[a]\ncompress_qpu_problem_data = {str(compressed).lower()}\n")
    backend = backend_of(qpu, tmp_path)
    backend.sample(BATCH, num_reads=3, seed=0)
    backend.close()
    assert len(inflated) == int(compressed)


# --- a calibration of another working graph


def test_a_calibration_of_another_graph_is_named(qpu, tmp_path, caplog):
    file = tmp_path / "calibration.toml"
    write_calibration(qpu, file)
    for text, warned in ((file.read_text(), False), (other_graph(file.read_text(), qpu), True)):
        file.write_text(text)
        caplog.clear()
        backend = backend_of(qpu, tmp_path, calibration=file, betas=None, annealing_time=None)
        backend.open()
        backend.close()
        named = [r for r in caplog.records if "was made on its working graph other," in r.message]
        assert len(named) == warned
        assert all(qpu.graph_id in record.message for record in named)


def other_graph(text, qpu):
    assert qpu.graph_id in text
    return text.replace(qpu.graph_id, "other")
