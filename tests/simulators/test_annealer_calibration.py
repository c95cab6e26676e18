"""The calibration of simulated annealers."""

import json
import math
from dataclasses import replace

import pytest
import torch
from _support.annealing import advantage2, problems

from qattn import exact
from qattn.ising.batch import IsingBatch
from qattn.ising.states import states
from qattn.simulators.calibration.calibrate import calibrate_simulator, uniform_divergence
from qattn.simulators.calibration.calibration_file import load_settings
from qattn.simulators.diabatic import DiabaticBackend
from qattn.simulators.qutip_backend import QutipBackend
from qattn.simulators.settings import AnnealSettings


def boltzmann(batch, beta_h, beta_J):
    """Exact probabilities at other inverse temperatures, shape (problems, states)."""
    spins = states(batch.num_spins, torch.float64, batch.h.device)
    other = IsingBatch(batch.h * beta_h, batch.J * beta_J)
    log_p = exact.log_prob(other, spins.expand(*batch.h.shape[:2], -1, -1))
    return spins, log_p.flatten(0, 1).exp()


@pytest.mark.parametrize("encoding", ["direct", "ghost"])
def test_fitted_betas_approach_theory_as_the_problem_weakens(encoding):
    errors = []
    for scale in (0.4, 0.1):
        batch = problems(5, fields=scale, couplings=scale / 2)
        found = calibrate_simulator(
            batch, annealing_times=[3.0], field_encodings=[encoding], tolerance=1e-5
        ).points[0]
        errors.append(
            max(
                abs(found.beta_h / found.theory[0] - 1),
                abs(found.beta_J / found.theory[1] - 1),
            )
        )
    assert errors[1] < errors[0] / 3
    assert errors[1] < 0.01


def test_a_wrong_beta_is_found_and_put_right():
    batch = problems(5, fields=0.3, couplings=0.15)
    right = calibrate_simulator(
        batch, annealing_times=[3.0], field_encodings=["direct"], tolerance=1e-5
    )
    point = right.points[0]
    wrong = DiabaticBackend(betas=(point.theory[0] * 1.2, point.theory[1] * 0.8))
    divergence = float(wrong.divergence(batch).mean())
    assert divergence > 5 * min(point.divergence, point.fitted_divergence)


def test_recommendation_has_the_least_divergence_and_backends_take_its_file(tmp_path):
    batch = problems(4, groups=2, queries=3, lengths=torch.tensor([4, 0, 2]), beta=0.9)
    found = calibrate_simulator(
        batch,
        schedules=["linear", "quadratic"],
        annealing_times=[1.0, 3.0],
        field_encodings=["direct"],
        tolerance=1e-2,
    )
    assert len(found.points) == 4
    least = min(min(p.divergence, p.fitted_divergence) for p in found.points)
    assert found.uniform_divergence > 10 * least
    for name in ("calibration.toml", "calibration.json"):
        file = tmp_path / name
        found.save(file)
        assert load_settings(file) == found.best.settings
        backend = DiabaticBackend(calibration=file, tolerance=1e-2)
        present = torch.from_numpy(batch.num_active > 0)
        assert float(backend.divergence(batch)[present].mean()) == pytest.approx(least, rel=1e-9)
    # An argument that is given overrides the file, and drops the betas of another anneal.
    other = DiabaticBackend(calibration=file, annealing_time=2.0, field_encoding="ghost")
    assert other.schedule.annealing_time == 2.0
    assert other.settings.betas is None


def test_both_backends_calibrate_alike():
    batch = problems(3, groups=1)
    times, encodings = [2.0], ["ghost"]
    points = [
        calibrate_simulator(
            batch, annealing_times=times, field_encodings=encodings, backend=backend
        ).points
        for backend in (DiabaticBackend, QutipBackend)
    ]
    assert points[0][0].divergence == pytest.approx(points[1][0].divergence, rel=0.02)
    assert points[0][0].beta_J == pytest.approx(points[1][0].beta_J, rel=0.005)


def test_uniform_divergence_is_that_of_enumeration():
    batch = problems(4)
    _, p = boltzmann(batch, 1.0, 1.0)
    expected = -(p.log().mean(1) + 4 * math.log(2)).mean()
    assert uniform_divergence(batch) == pytest.approx(float(expected))


@pytest.mark.slow
def test_published_schedule_calibrates():
    batch = problems(7, fields=0.5, couplings=0.25, queries=8)
    found = calibrate_simulator(batch, schedules=[advantage2()], annealing_times=[5.0, 10.0])
    assert found.uniform_divergence > 5 * min(p.divergence for p in found.points)
    assert replace(found.best.settings, betas=None).sheet == "fast"


def test_wrong_files_and_settings_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="Argument `calibration` must be an existing file"):
        DiabaticBackend(calibration=tmp_path / "none.toml")
    file = tmp_path / "calibration.json"
    file.write_text("[]")
    with pytest.raises(ValueError, match="must be a calibration of a simulated annealer, but"):
        DiabaticBackend(calibration=file)
    file.write_text(json.dumps({"recommended": {"anneal": 3}}))
    with pytest.raises(ValueError, match=r"must have keys among .*but have anneal"):
        DiabaticBackend(calibration=file)
    with pytest.raises(ValueError, match="Argument `field_encoding` must be 'direct' or 'ghost'"):
        AnnealSettings(field_encoding="both")
    with pytest.raises(ValueError, match="must hold a time at which some schedule has positive"):
        calibrate_simulator(problems(3), schedules=["cold"], annealing_times=[])


def test_what_problems_do_not_fix_stays_as_theory_has_it():
    batch = problems(4, fields=0.0, couplings=0.2)
    point = calibrate_simulator(batch, annealing_times=[3.0], field_encodings=["direct"]).points[0]
    assert point.beta_h == point.theory[0]
    assert point.beta_J != point.theory[1]
    assert point.fitted_divergence < point.divergence


def test_plot_has_two_curves_for_each_setting():
    from qattn.simulators.calibration.calibration_plot import plot_divergences

    found = calibrate_simulator(problems(3), annealing_times=[3.0, 2.0])
    axes, betas = plot_divergences(found).axes
    curves = [line for line in axes.lines if len(line.get_xdata()) == 2][:4]
    assert [list(line.get_xdata()) for line in curves] == [[2.0, 3.0]] * 4
    assert [tick.get_text() for tick in betas.get_xticklabels()] == ["2", "3"]
    # The fitted betas stand below: two curves for each of the two encodings.
    assert [line.get_label() for line in betas.lines] == [
        "β_h, linear, direct", "β_J, linear, direct", "β_h, linear, ghost", "β_J, linear, ghost"
    ]  # fmt: skip
    direct = [point.beta_J for point in found.curves("field_encoding")["direct",]]
    assert list(betas.lines[1].get_ydata()) == direct


def test_a_schedule_file_is_a_file_in_the_legend():
    from dataclasses import replace

    from qattn.simulators.calibration.calibration_plot import plot_divergences

    found = calibrate_simulator(problems(3), annealing_times=[3.0], field_encodings=["ghost"])
    names = ("somewhere/09-1323A-D_schedule.xlsx", "other.csv")
    points = tuple(replace(found.points[0], schedule=name) for name in names)
    figure = plot_divergences(replace(found, points=points, recommended=0))
    labels = [label for axes in figure.axes for label in axes.get_legend_handles_labels()[1]]
    assert "file 1, ghost: theory's β" in labels
    assert not any("1323" in label for label in labels)
