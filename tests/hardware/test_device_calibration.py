"""Calibration of a QPU: the emulator's two temperatures, their intervals, and the files."""

import math

import numpy as np
import pytest
import torch
from _support.qpu_backends import backend_of

from qattn import exact, problems
from qattn.hardware.calibrate import calibrate_device, misfit, misfit_with_error
from qattn.hardware.calibration_file import (
    DeviceCalibration,
    DevicePoint,
    load_device_calibration,
)
from qattn.hardware.emulator import EmulatedQPU
from qattn.hardware.settings import QPUSettings
from qattn.ising.batch import IsingBatch

pytestmark = pytest.mark.usefixtures("packings_are_kept")

BETA_H, BETA_J = 7.0, 9.0
BATCH = problems.synthetic(40, 4, field_sd=0.6, coupling_sd=0.4, seed=3)
DIRECT = QPUSettings(20_000.0, "direct", 2.0)


def opened(qpu, folder, **options):
    start = {"betas": (1.0, 1.0), "annealing_time": 20_000.0, "field_encoding": "direct"}
    return backend_of(qpu, folder, **(start | options))


def calibrated(session, seed, points=(DIRECT,), num_reads=60):
    return calibrate_device(session, BATCH, points, num_reads=num_reads, seed=seed)


@pytest.mark.slow
def test_intervals_hold_as_often_as_they_say(tmp_path):
    """95% intervals of each beta in at least 90 of 100 repetitions; one β never fits.

    The number that hold is binomial(100, 0.95): fewer than 90 has a chance of 1% per beta.
    """
    held, refuted = [0, 0], 0
    with EmulatedQPU(shape=(3, 4), beta_h=BETA_H, beta_J=BETA_J) as qpu:
        backend = opened(qpu, tmp_path)
        for repetition in range(100):
            best = calibrated(backend.session, 10_000 * repetition).best
            for i, truth in enumerate((BETA_H, BETA_J)):
                low, high = best.interval()[i]
                held[i] += low <= truth <= high
            refuted += best.p_value < 1e-3
        backend.close()
    assert min(held) >= 90
    assert refuted == 100


def test_two_temperatures_are_found(tmp_path):
    """Within 5 standard errors; from a start that is off by a factor of ten or so."""
    with EmulatedQPU(shape=(3, 4), beta_h=BETA_H, beta_J=BETA_J) as qpu:
        backend = opened(qpu, tmp_path)
        found = calibrated(backend.session, 1, num_reads=200)
        backend.close()
    best = found.best
    for value, error, truth in zip(
        (best.beta_h, best.beta_J), best.standard_errors, (BETA_H, BETA_J), strict=True
    ):
        assert abs(value - truth) <= 5 * error
        assert error < 0.03 * truth
    assert best.p_value < 1e-6
    assert 0.8 < best.misfit < 1.2
    assert (found.solver, found.emulated) == (qpu.name, True)


def test_one_temperature_is_not_refuted(tmp_path):
    """The control: with equal betas the p-value is not small, and the ghost spin makes them so."""
    with EmulatedQPU(shape=(3, 4), beta_h=BETA_J, beta_J=BETA_J) as qpu:
        backend = opened(qpu, tmp_path)
        found = calibrated(backend.session, 1, [DIRECT, QPUSettings(5.0, "ghost", 2.0)])
        backend.close()
    assert all(point.p_value > 1e-3 for point in found.points)
    for point in found.points:
        assert abs(point.beta_J - BETA_J) <= 5 * point.standard_errors[1]


def test_misfit_tells_a_boltzmann_distribution_from_another(tmp_path):
    """Misread qubits and weak chains are no temperature; the misfit of both is above 1."""
    with EmulatedQPU(shape=(3, 4), readout_flip=0.05) as qpu:
        backend = backend_of(qpu, tmp_path)
        points = [QPUSettings(5.0, "ghost", 2.0), QPUSettings(5.0, "ghost", 0.1)]
        found = calibrated(backend.session, 1, points, num_reads=1000)
        backend.close()
    strong, weak = found.points
    assert strong.misfit > 1.5
    assert weak.misfit > strong.misfit
    assert weak.chain_break_rate > 0.02
    assert found.recommended == 0


def test_theory_stands_beside_the_fit(tmp_path):
    """The emulator's simulated anneal: ghosts see β_J, and the fields of ancillas β_h.

    First-order theory holds for weak problems; here it is off by a few percent, and the fits'
    standard errors are 3 to 7%.
    """
    batch = problems.synthetic(40, 3, field_sd=0.4, coupling_sd=0.28, seed=1)
    points = [QPUSettings(5.0, encoding, 1.0) for encoding in ("ghost", "ancilla")]
    with EmulatedQPU(shape=(3, 4), schedule="linear") as qpu:
        backend = backend_of(qpu, tmp_path)
        found = calibrate_device(backend.session, batch, points, num_reads=2000, schedule="linear")
        backend.close()
    ghost, ancilla = found.points
    assert ghost.theory[0] == ghost.theory[1] == ancilla.theory[1] != ancilla.theory[0]
    for point in found.points:
        errors = point.standard_errors
        for value, error, theory in zip(
            (point.beta_h, point.beta_J), errors, point.theory, strict=True
        ):
            assert abs(value - theory) <= 5 * error
            assert error < 0.1 * theory
    apart = math.hypot(ghost.standard_errors[0], ancilla.standard_errors[0])
    assert ancilla.beta_h - ghost.beta_h > 5 * apart


def test_misfit_of_exact_reads_is_one():
    reads = exact.sample(BATCH, 500, 1)
    # The mean of about 400 correlated squares; 10% is beyond 5 standard errors of its root.
    assert misfit(BATCH, reads, (1.0, 1.0)) == pytest.approx(1.0, abs=0.1)
    assert misfit(BATCH, reads, (1.3, 1.3)) > 1.5


@pytest.mark.parametrize("name", ["cal.toml", "cal.json"])
def test_file_round_trip(tmp_path, name):
    found = calibration("A", 7.0, "2026-01-02T00:00:00+00:00", theory=(6.9, 8.8))
    found.save(tmp_path / name)
    again = load_device_calibration(tmp_path / name, "A")
    assert again == found
    with pytest.raises(ValueError, match="calibration of A, but the solver is B"):
        load_device_calibration(tmp_path / name, "B")


def test_newest_of_a_folder_that_is_of_the_solver(tmp_path):
    calibration("A", 7.0, "2026-01-02T00:00:00+00:00").save(tmp_path / "1.toml")
    calibration("A", 8.0, "2026-01-03T00:00:00+00:00").save(tmp_path / "0.json")
    calibration("B", 9.0, "2026-01-04T00:00:00+00:00").save(tmp_path / "2.toml")
    (tmp_path / "other.toml").write_text("x = 1\n")
    assert load_device_calibration(tmp_path, "A").best.beta_h == 8.0
    with pytest.raises(FileNotFoundError, match="no calibration of C"):
        load_device_calibration(tmp_path, "C")


def test_what_is_no_calibration(tmp_path):
    file = tmp_path / "x.toml"
    file.write_text("x = 1\n")
    with pytest.raises(ValueError, match="qattn calibrate --sampler dwave"):
        load_device_calibration(file, "A")
    with pytest.raises(FileNotFoundError, match="existing file"):
        load_device_calibration(tmp_path / "nothing.toml", "A")


def test_point_is_chosen_by_settings():
    points = tuple(point(time, misfit=misfit) for time, misfit in ((5.0, 1.5), (10.0, 1.1)))
    found = DeviceCalibration("A", "g", True, "2026-01-01T00:00:00+00:00", points, 1)
    assert found.point() is points[1]
    assert found.point(annealing_time=5.0) is points[0]
    with pytest.raises(ValueError, match=r"no point with annealing_time = 7\.0"):
        found.point(annealing_time=7.0)


def test_calibration_gives_the_backend_its_settings(tmp_path):
    with EmulatedQPU(shape=(3, 4), beta_h=9.0, beta_J=9.0) as qpu:
        calibration(qpu.name, 9.0, "2026-01-02T00:00:00+00:00").save(tmp_path / "c.toml")
        backend = backend_of(
            qpu, tmp_path, betas=None, annealing_time=None, calibration=tmp_path / "c.toml"
        )
        info = backend.sample(BATCH, num_reads=10, seed=1).info
        backend.close()
    assert (info["annealing_time"], info["chain_strength"]) == (5.0, 2.0)
    assert (info["beta_h"], info["beta_J"]) == (9.0, 9.0)
    assert info["calibrated"] == "2026-01-02T00:00:00+00:00"
    assert info["calibration_age_hours"] > 0


def test_problems_must_fix_both_betas(tmp_path):
    with EmulatedQPU(shape=(3, 4)) as qpu:
        backend = backend_of(qpu, tmp_path)
        for batch in (
            IsingBatch(torch.zeros(1, 5, 3), BATCH.J[:1, :3, :3].float()),
            IsingBatch(torch.ones(1, 1, 3), torch.zeros(1, 3, 3)),
        ):
            with pytest.raises(ValueError, match="batch"):
                calibrate_device(backend.session, batch, [QPUSettings(5.0, "ghost", 2.0)])
        with pytest.raises(ValueError, match="points"):
            calibrate_device(backend.session, BATCH, [])
        backend.close()


def point(time, misfit=1.0, beta=7.0, theory=None):
    covariance = ((0.01, 0.002), (0.002, 0.03))
    return DevicePoint(time, "ghost", 2.0, beta, beta, covariance, 0.4, misfit, 0.0, 40, theory)


def calibration(solver, beta, created, theory=None):
    points = (point(5.0, beta=beta, theory=theory),)
    return DeviceCalibration(solver, "g", True, created, points, 0, "for a test")


def test_intervals_are_students():
    low, high = point(5.0).interval()[0]
    assert (low + high) / 2 == pytest.approx(7.0)
    assert high - low == pytest.approx(2 * 2.0227 * math.sqrt(0.01), rel=1e-4)  # t of 39


def test_plot_has_a_curve_for_each_setting_and_beta():
    from qattn.hardware.calibration_plot import plot_betas

    points = tuple(point(time, theory=(6.0, 8.0)) for time in (10.0, 5.0))
    found = DeviceCalibration("A", "g", True, "2026-01-01T00:00:00+00:00", points, 0)
    assert found.curves("field_encoding") == {("ghost",): [points[1], points[0]]}
    above, below = plot_betas(found).axes
    assert above.get_title() == "A (EMULATED)"
    assert len(above.containers) == 2
    labels = above.get_legend_handles_labels()[1]
    assert {"β_h, theory", "β_J, ghost, chains 2"} <= set(labels)
    # β_h and β_J of one time stand side by side; what the bars are is said.
    beta_h, beta_J = (container[0].get_xdata() for container in above.containers)
    assert (beta_h < beta_J).all()
    assert list(below.containers[0][0].get_xdata()) == [5.0, 10.0]
    assert "95% intervals" in plot_betas(found).get_suptitle()
    # Two points are not joined by a line, three are.
    assert above.containers[0][0].get_linestyle() == "None"


def test_error_of_the_misfit():
    """The spread over repetitions of reads of other seeds, within 5 of its own standard errors.

    The standard error of a standard deviation over 60 repetitions is 9% of it.
    """
    found = [misfit_with_error(BATCH, exact.sample(BATCH, 200, seed), (1.0, 1.0))
             for seed in range(60)]  # fmt: skip
    values, errors = np.array(found).T
    assert abs(errors.mean() / values.std(ddof=1) - 1) < 5 * 0.092
    one = IsingBatch(BATCH.h[:1, :1], BATCH.J[:1])
    assert math.isnan(misfit_with_error(one, exact.sample(one, 200, 0), (1.0, 1.0))[1])
