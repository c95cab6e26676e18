"""Flux biases that cancel the offsets of chains: they are found, kept and applied."""

import logging

import numpy as np
import pytest
from _support.qpu_backends import backend_of, credentials_of

from qattn import problems
from qattn.cli.calibration.qpu import qpu_outcome
from qattn.hardware.calibrate import calibrate_device, misfit
from qattn.hardware.calibration_file import DeviceCalibration
from qattn.hardware.calls.plan import Request
from qattn.hardware.emulator import EmulatedQPU, api
from qattn.hardware.emulator.physics.device_noise import chain_offsets
from qattn.hardware.emulator.physics.physical_problem import PhysicalProblem
from qattn.hardware.emulator.physics.run_job import run_job
from qattn.hardware.settings import QPUSettings
from qattn.hardware.shim import shim_chains

pytestmark = pytest.mark.usefixtures("packings_are_kept")

GHOST = QPUSettings(5.0, "ghost", 2.0)
SPINS = 8  # and the ghost: chains of one and of two qubits
READS = 500
REST = 0.208
"""Variance of a chain's artanh m after three corrections, over that of one submission: 1/3 for the
mean of three, then (1 - g)² of it and g² for g = 1/2, 1/3, 1/4."""


def angles(qpu, packing, flux):
    """artanh of each chain's magnetization as the emulator's model has it, with these biases."""
    graph = qpu.graph
    chain = packing.chain_of_qubit
    couplers = packing.chain_couplers
    N = len(graph.qubits)
    ends = graph.coupler_ends[couplers].astype(np.int64)
    alone = PhysicalProblem(np.arange(N), np.zeros(N), couplers, ends, np.full(len(couplers), -2.0))
    h = chain_offsets(alone, qpu._api.device, qpu.settings)
    h = h + qpu.properties["emulated_h_per_phi0"] * flux[graph.qubits]
    used = chain >= 0
    return -qpu.settings.beta_h * np.bincount(chain[used], h[used], packing.chain_lengths.size)


def biases(qpu, shim):
    flux = np.zeros(qpu.properties["num_qubits"])
    flux[list(shim.qubits)] = shim.flux_biases
    return flux


@pytest.mark.parametrize("seed", [0, 1])
def test_the_emulated_offsets_are_found_within_their_errors(tmp_path, seed):
    with EmulatedQPU(shape=(3, 4), chain_offset=0.02, seed=seed) as qpu:
        backend = backend_of(qpu, tmp_path)
        shim = shim_chains(backend.session, GHOST, SPINS + 1, num_reads=READS, seed=seed)
        packing = backend.session.device.packing(SPINS + 1)
        backend.close()
    left = angles(qpu, packing, biases(qpu, shim))
    expected = REST / READS
    error = expected * np.sqrt(2 / len(left))
    # The slope's own error, 1% here, leaves a little of the offsets where corrections damp it.
    assert abs(np.square(left).mean() - expected) < 5 * error
    # The controls: nothing, and the opposite of what was found.
    assert np.square(angles(qpu, packing, 0 * biases(qpu, shim))).mean() > 20 * expected
    assert np.square(angles(qpu, packing, -biases(qpu, shim))).mean() > 80 * expected
    # What it says of itself: the remaining rms is shot noise and that rest.
    assert shim.before > 3 * shim.shot_noise
    assert shim.shot_noise == pytest.approx(READS**-0.5)
    of_rest = shim.shot_noise * np.sqrt(1 + REST)
    assert abs(shim.after - of_rest) < 5 * of_rest / np.sqrt(2 * len(left))
    assert (shim.submissions, len(qpu.jobs)) == (7, 7)
    assert shim.access_time == pytest.approx(qpu.access_time_us * 1e-6)


def test_without_offsets_nothing_is_found(tmp_path):
    with EmulatedQPU(shape=(3, 4), chain_offset=0.0) as qpu:
        backend = backend_of(qpu, tmp_path)
        shim = shim_chains(backend.session, GHOST, SPINS + 1, num_reads=READS)
        packing = backend.session.device.packing(SPINS + 1)
        backend.close()
    chains = packing.chain_lengths.size
    assert abs(shim.before - shim.shot_noise) < 5 * shim.shot_noise / np.sqrt(2 * chains)
    left = np.square(angles(qpu, packing, biases(qpu, shim))).mean()
    assert abs(left - REST / READS) < 5 * REST / READS * np.sqrt(2 / chains)


def test_flux_biases_that_do_nothing_are_noticed(tmp_path, monkeypatch):
    with EmulatedQPU(shape=(2, 4)) as qpu:
        backend = backend_of(qpu, tmp_path)
        monkeypatch.setattr("qattn.hardware.shim.PROBE", 1e-9)
        with pytest.raises(ValueError, match="does not answer to flux biases"):
            shim_chains(backend.session, GHOST, 3, num_reads=50)
        backend.close()


@pytest.fixture
def submitted(monkeypatch):
    """Parameters of the jobs that the emulator ran, in their order."""
    params = []

    def run(request, *arguments):
        params.append(request["params"])
        return run_job(request, *arguments)

    monkeypatch.setattr(api, "run_job", run)
    return params


def magnetization(backend, batch, reads):
    """Root mean square magnetization of the qubits of ghost-encoded problems, and the reads."""
    session = backend.session
    samples = backend.sample(batch, num_reads=reads, seed=5)
    record = session.recorded(Request.of(batch, reads, 5))
    found = np.zeros(session.device.properties["num_qubits"])
    for job in record.jobs:
        answer = session.journal.answer(job.name)
        found[answer.qubits] += answer.spins.sum(0, dtype=np.int64) / reads
    return float(np.sqrt(np.square(found[answer.qubits]).mean())), samples


def test_a_calibration_keeps_the_shim_and_reads_are_taken_with_it(tmp_path, caplog, submitted):
    """On the emulator: qubits of ghost problems lose their magnetization, the misfit goes to 1.

    A gauge averages the effect of the couplings on magnetizations out; the offsets stay.
    """
    batch, reads = problems.synthetic(8, SPINS, seed=2), 1000
    with EmulatedQPU(shape=(2, 4), chain_offset=0.03, beta_h=9.0, beta_J=9.0, seed=3) as qpu:
        first = backend_of(qpu, tmp_path)
        found = calibrate_device(first.session, batch, [GHOST], num_reads=50, shim_corrections=3)
        first.close()
        found.save(tmp_path / "c.toml")
        assert DeviceCalibration.load(tmp_path / "c.toml") == found
        options = {"betas": (9.0, 9.0), "spin_reversal_transforms": 8}
        results = {}
        journal = tmp_path / "both"
        for name, chosen in (("plain", None), ("shimmed", tmp_path / "c.toml")):
            backend = backend_of(qpu, tmp_path, calibration=chosen, journal=journal, **options)
            results[name] = magnetization(backend, batch, reads)
            backend.close()
        one = {}
        for name, chosen in (("plain", None), ("shimmed", tmp_path / "c.toml")):
            backend = backend_of(qpu, tmp_path, calibration=chosen, betas=(9.0, 9.0))
            one[name] = backend.sample(batch, num_reads=reads, seed=7)
            backend.close()
        # Reads without flux biases are not taken for those with: each paid for its own jobs.
        assert "shim" not in results["plain"][1].info
        assert results["shimmed"][1].info["shim"] == found.shim.digest
        # 8 gauges leave 1/√8 of what couplings make of the offsets, and the shot noise.
        assert results["plain"][0] > 0.2
        assert results["shimmed"][0] < 0.5 * results["plain"][0]
        plain, shimmed = (misfit(batch, one[name], (1.0, 1.0)) for name in ("plain", "shimmed"))
        assert plain > 2.0
        assert shimmed < 1.3
        # Another working graph has other chains: said once, and not applied.
        qpu.recalibrate()
        backend = backend_of(qpu, tmp_path, calibration=tmp_path / "c.toml")
        with caplog.at_level(logging.WARNING, "qattn.hardware"):
            for seed in range(2):
                backend.sample(batch, num_reads=10, seed=seed)
        backend.close()
    assert "flux_biases" not in submitted[-1]
    told = [r.message for r in caplog.records if "flux biases are for slots" in r.message]
    assert len(told) == 1
    assert "they are not applied" in told[0]


def test_only_qubits_in_use_get_flux_biases(tmp_path, submitted):
    """Also where an ancilla carries the fields: its flux bias is added."""
    with EmulatedQPU(shape=(2, 4), chain_offset=0.02) as qpu:
        backend = backend_of(qpu, tmp_path)
        shim = shim_chains(backend.session, GHOST, 5, num_reads=50)
        ancilla = QPUSettings(5.0, "ancilla", 2.0, betas=(9.0, 9.0))
        backend.session.use_settings(ancilla, shim=shim)
        backend.session.reads(Request.of(problems.synthetic(1, 4, seed=0), 10, 0))
        backend.close()
    params = submitted[-1]
    used = np.flatnonzero(params["flux_biases"])
    assert 5 <= len(used) <= 10
    expected = biases(qpu, shim)
    difference = np.array(params["flux_biases"])[used] - expected[used]
    held = np.abs(difference) > 1e-12
    assert 1 <= held.sum() <= 2
    assert np.abs(difference[held]) == pytest.approx(0.005)


def test_the_command_reports_the_shim(tmp_path, capsys):
    with EmulatedQPU(shape=(2, 4), chain_offset=0.02) as qpu:
        outcome = qpu_outcome(
            problems.synthetic(5, 3, seed=0),
            described="for a test",
            seed=0,
            annealing_times=[5.0],
            num_reads=20,
            shim=True,
            journal=tmp_path / "journal",
            credentials=credentials_of(qpu, tmp_path),
        )
    assert outcome.calibration.shim.submissions == 7
    assert "shim: rms magnetization of 4-spin cliques' chains" in capsys.readouterr().err


def test_what_is_no_shim(tmp_path):
    file = tmp_path / "c.toml"
    for text in ("shim = 1", "[shim]\nqubits = [1]\nflux_biases = [0.1]"):
        file.write_text(f'format = 2\nkind = "qpu"\n{text}\n')
        with pytest.raises(ValueError, match=r"the shim of .*c\.toml is none"):
            DeviceCalibration.load(file)


def test_one_chain_strength_at_a_time(tmp_path):
    with EmulatedQPU(shape=(2, 4)) as qpu:
        backend = backend_of(qpu, tmp_path)
        points = [QPUSettings(5.0, "ghost", strength) for strength in (1.0, 2.0)]
        with pytest.raises(ValueError, match="must have one chain strength with a shim"):
            calibrate_device(
                backend.session, problems.synthetic(3, 2, seed=0), points, shim_corrections=0
            )
        backend.close()
