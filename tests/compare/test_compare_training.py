"""Trainings side by side: what is compared, and what is written."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from _support.qpu_backends import credentials_of, write_calibration

from qattn.backends import parse_samplers, registry
from qattn.compare.trainings import compare_trainings, training_config
from qattn.compare.trainings_report import band, training_rows, write_training_report
from qattn.hardware.emulator import EmulatedQPU
from qattn.training import Learner, TrainConfig

BASE = TrainConfig(
    context=4,
    layers=1,
    heads=1,
    width=8,
    batch_size=4,
    steps=4,
    lr=1e-2,
    warmup=1,
    eval_every=2,
    num_reads=40,
)


@pytest.fixture(scope="module")
def curves(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trainings")
    specs = parse_samplers("exact,neal,neal:refine_sweeps=1")
    return compare_trainings(specs, BASE, seeds=2, folder=folder), folder


def test_all_start_from_the_same_weights_and_data(curves):
    trained, _ = curves
    for seed in (0, 1):
        start = {curve.losses[0] for curve in trained if curve.seed == seed}
        assert len(start) == 1
    assert trained[0].losses[0] != trained[1].losses[0]
    assert all(curve.steps == [0, 2, 4] for curve in trained)


def test_exact_training_follows_the_exact_gradient(curves):
    """And reads do not, by an error that falls with their number as 1/sqrt."""
    trained, _ = curves
    for curve in trained:
        errors = curve.gradient_errors[1:]
        assert math.isnan(curve.gradient_errors[0])
        assert all((error < 1e-5) == (curve.sampler == "exact") for error in errors)


def test_gradient_error_falls_with_reads():
    """Mean over ten batches: 16 times the reads, a quarter of the error, to a factor of two."""
    errors = {}
    for num_reads in (25, 400):
        config = TrainConfig(**(vars(BASE) | {"sampler": "neal", "num_reads": num_reads}))
        learner, trained = Learner(config), []
        for number in range(10):
            exact = learner.exact_gradient(number)
            learner.step(number)
            trained.append(learner.gradient_errors(exact).item())
        errors[num_reads] = float(np.mean(trained))
    assert 2 < errors[25] / errors[400] < 8


def test_exact_gradient_changes_nothing():
    config = TrainConfig(**(vars(BASE) | {"sampler": "neal"}))
    one, two = Learner(config), Learner(config)
    one.exact_gradient(0)
    state = torch.get_rng_state()
    torch.manual_seed(3)
    one.step(0)
    torch.manual_seed(3)
    two.step(0)
    torch.set_rng_state(state)
    for name, value in one.parameters.items():
        assert torch.equal(value, two.parameters[name])


def test_what_is_written(curves, tmp_path):
    trained, folder = curves
    lines = (folder / "curves.jsonl").read_text().splitlines()
    assert [json.loads(line)["sampler"] for line in lines] == [c.sampler for c in trained]
    paths = write_training_report(trained, tmp_path, command="qattn compare", created="today")
    names = {"training.json", "training.html"} | {
        f"{name}.{suffix}"
        for name in ("learning_curves", "gradient_errors")
        for suffix in ("png", "svg", "pdf")
    }
    assert {path.name for path in paths} == names
    html = (tmp_path / "training.html").read_text()
    assert html.count("data:image/png") == 2
    assert "http" not in html.replace("http://www.w3.org", "")
    assert "neal:refine_sweeps=1" in html
    assert "EMULATED" not in html


def test_progress_is_told_at_every_step(tmp_path):
    told = []
    compare_trainings(parse_samplers("exact"), BASE, seeds=1, folder=tmp_path, progress=told.append)
    assert told == [f"training with exact, seed 0: step {step} of 4" for step in range(5)]


def test_a_small_model_trains_on_one_thread(tmp_path):
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        for chosen in (None, 2):
            base = replace(BASE, threads=chosen)
            compare_trainings(
                parse_samplers("exact"),
                base,
                seeds=1,
                folder=tmp_path / str(chosen),
                progress=lambda _: seen.append(torch.get_num_threads()),
            )
        assert seen == [1] * 5 + [2] * 5
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_rows_name_samplers_and_intervals(curves):
    trained, _ = curves
    assert [row[0] for row in training_rows(trained)] == ["exact", "neal", "neal:refine_sweeps=1"]
    assert all("±" in row[3] for row in training_rows(trained))


def test_band_is_students():
    mean, spread = band([[1.0, 2.0], [3.0, 4.0], [5.0]])
    assert mean.tolist() == [3.0, 3.0]
    assert spread[0] == pytest.approx(4.30265 * 2.0 / math.sqrt(3), rel=1e-4)  # t of 2
    assert spread[1] == pytest.approx(12.7062 * math.sqrt(2) / math.sqrt(2), rel=1e-4)  # t of 1
    assert math.isnan(band([[1.0]])[1][0])


@pytest.mark.usefixtures("packings_are_kept")
def test_a_qpu_is_counted_named_and_may_end_early(tmp_path):
    with EmulatedQPU(shape=(3, 4)) as qpu:
        write_calibration(qpu, tmp_path / "cal.toml")
        options = {
            "calibration": str(tmp_path / "cal.toml"),
            "credentials": str(credentials_of(qpu, tmp_path)),
        }
        (spec,) = parse_samplers("dwave")
        (short,) = parse_samplers("dwave:qpu_budget=12ms")
        specs = [spec.with_options(**options)]
        (curve,) = compare_trainings(specs, BASE, seeds=1, folder=tmp_path / "a")
        assert curve.emulated
        assert curve.sampler == "dwave (EMULATED)"
        assert curve.qpu_seconds == pytest.approx(qpu.access_time_us * 1e-6)
        assert (tmp_path / "a" / "trainings" / "dwave-seed0" / "journal").is_dir()
        specs = [short.with_options(**options)]
        (stopped,) = compare_trainings(specs, BASE, seeds=1, folder=tmp_path / "b")
    assert "QPU budget of 12 ms" in stopped.stopped
    write_training_report([curve, stopped], tmp_path)
    assert "EMULATED" in (tmp_path / "training.html").read_text()


def test_what_a_training_does_not_take(tmp_path, monkeypatch):
    monkeypatch.setitem(registry._registered, "theirs", lambda strength=1.0: None)
    for text in ("neal:default", "theirs:strength=2"):
        (spec,) = parse_samplers(text)
        with pytest.raises(ValueError, match="leave it out"):
            training_config(spec, BASE)
    (spec,) = parse_samplers("diabatic:tolerance=1e-3")
    assert training_config(spec, BASE).tolerance == 1e-3
    # Whatever the settings' file says: curves of different samplers are evaluated alike.
    sampled = replace(BASE, eval_sampler="neal")
    assert training_config(spec, sampled).eval_sampler == "exact"
    with pytest.raises(ValueError, match="seeds"):
        compare_trainings(parse_samplers("exact"), BASE, seeds=0, folder=tmp_path)
