"""Samplers inside the layer, the training loop and the command line."""

import json
import math
import re

import pytest
import torch
from _support.command_line import run
from _support.trainings import EVERY, SMALL, assert_same_end

from qattn import BoltzmannAttention, boltzmann_attention, boltzmann_weights, exact
from qattn.backends import ExactBackend
from qattn.problems import synthetic
from qattn.problems.run import from_run
from qattn.simulators.calibration.calibration_file import load_settings
from qattn.simulators.diabatic import DiabaticBackend
from qattn.training import Learner, TrainConfig, train

PROGRESS = re.compile(r"\d+ of \d+, ")

TINY = {**SMALL, "context": 4, "num_reads": 20}


@pytest.mark.parametrize("sampler", ["neal", ExactBackend()])
@pytest.mark.parametrize("estimator", [None, "moment", "callen", "score"])
def test_layer_with_a_sampler_agrees_with_the_exact_layer(sampler, estimator):
    # Weights are (1 + s̄)/2 with a standard error of at most 1/(2 sqrt(reads)): 5 sigma. Control:
    # another J is further away than that.
    torch.manual_seed(0)
    layer = BoltzmannAttention(8, 2, 6, num_reads=4000, estimator=estimator)
    torch.nn.init.normal_(layer.coupling_values, std=0.5)
    x = torch.randn(2, 6, 8)
    layer.estimator, wanted = None, layer.weights(x)
    layer.backend, layer.estimator = sampler, estimator
    bound = 5 * 0.5 / math.sqrt(4000)
    found = layer.weights(x)
    assert (found - wanted).abs().max() < bound
    found.square().sum().backward()
    assert layer.coupling_values.grad.abs().max() > 0
    assert layer.qkv.weight.grad.abs().max() > 0
    with torch.no_grad():
        layer.coupling_values.neg_()
    assert (layer.weights(x) - wanted).abs().max() > bound


def test_function_takes_a_backend_by_name_or_itself():
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 2, 5, 4).unbind(0)
    J = torch.zeros(2, 5, 5)
    wanted = boltzmann_weights(query, key, J, is_causal=True)
    for backend in ("neal", ExactBackend()):
        out = boltzmann_attention(
            query, key, value, J, is_causal=True, backend=backend, num_reads=4000
        )
        # With J = 0, callen's mean tanh(h) is exact.
        torch.testing.assert_close(out, wanted @ value)
    with pytest.raises(ValueError, match=r"is 'nael': did you mean 'neal'"):
        boltzmann_attention(query, key, value, J, backend="nael")
    with pytest.raises(ValueError, match="`num_reads` must be at least 2"):
        boltzmann_attention(query, key, value, J, backend="neal", num_reads=1)


def test_ising_batch_of_a_layer_is_what_it_solves():
    torch.manual_seed(0)
    layer = BoltzmannAttention(8, 2, 6, beta=1.4)
    x = torch.randn(3, 5, 8)
    batch = layer.ising_batch(x)
    assert len(batch.to_bqms()) == 2 * 5 * 3
    # Queries are ordered by position, then by sequence.
    mean = exact.mean_spins(batch).view(2, 5, 3, 5)
    weights = ((mean + 1) / 2).permute(2, 0, 1, 3).tril()
    torch.testing.assert_close(layer.weights(x), weights)


@pytest.mark.parametrize("sampler", ["gibbs", "neal", "diabatic", "qutip"])
@pytest.mark.parametrize("ensemble", [1, 2])
def test_learners_train_on_reads_and_are_judged_exactly(sampler, ensemble):
    sampled = Learner(TrainConfig(sampler=sampler, ensemble=ensemble, **TINY))
    exactly = Learner(TrainConfig(ensemble=ensemble, **TINY))
    assert sampled.evaluate() == exactly.evaluate()
    losses = torch.stack([sampled.step(number) for number in range(3)])
    wanted = torch.stack([exactly.step(number) for number in range(3)])
    # Close, since couplings start small; not equal, since reads have noise.
    assert 0 < (losses - wanted).abs().max() < 0.05
    values = [v for k, v in sampled.parameters.items() if k.endswith("coupling_values")]
    assert all(v.grad.abs().max() > 0 for v in values)


@pytest.mark.parametrize(
    "sampler", ["gibbs", "gibbs:num_sweeps=2,persistent=true", "neal", "diabatic"]
)
def test_sampled_runs_resume_to_the_bit(tmp_path, monkeypatch, sampler):
    config = TrainConfig(steps=24, sampler=sampler, **TINY, **EVERY)
    train(config, tmp_path / "whole")
    real_step = Learner.step

    def step(self, number):
        if number == 13:
            raise KeyboardInterrupt
        return real_step(self, number)

    monkeypatch.setattr(Learner, "step", step)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "parts")
    monkeypatch.setattr(Learner, "step", real_step)
    train(config, tmp_path / "parts", resume=True)
    assert_same_end(tmp_path / "whole", tmp_path / "parts")


def test_evaluation_may_use_the_sampler_that_trains():
    learner = Learner(TrainConfig(sampler="neal", eval_sampler="neal", **TINY))
    exactly = Learner(TrainConfig(**TINY))
    found, wanted = learner.evaluate()[0], exactly.evaluate()[0]
    assert 0 < abs(found["validation_loss"] - wanted["validation_loss"]) < 0.05


@pytest.mark.usefixtures("as_users_call")
class TestCommandLine:
    def test_backends_are_listed(self, monkeypatch, capsys):
        status, printed, _ = run(monkeypatch, capsys, "backends")
        assert status == 0
        assert all(name in printed for name in ("exact", "neal", "qutip", "diabatic", "runs here"))

    def test_calibration_is_written_and_used(self, monkeypatch, capsys, tmp_path):
        out = tmp_path / "calibration.toml"
        arguments = ["calibrate", "--problems=10", "--spins=4", "--annealing-time=2", "--out", out]
        status, printed, _ = run(monkeypatch, capsys, *arguments)
        assert status == 0
        assert "recommended: schedule = linear, annealing_time = 2.0" in printed
        assert out.with_suffix(".png").is_file()
        before = out.read_text()
        status, _, errors = run(monkeypatch, capsys, *arguments)
        assert status == 1
        assert "exists: choose another --out" in errors
        assert out.read_text() == before
        flags = [f"--{k.replace('_', '-')}={v}" for k, v in TINY.items()]
        folder = tmp_path / "run"
        status, _, _ = run(
            monkeypatch, capsys, "train", *flags, "--steps=3", "--sampler=diabatic",
            "--calibration", out, "--out", folder,
        )  # fmt: skip
        assert status == 0
        assert json.loads((folder / "summary.json").read_text())["sampler"] == "diabatic"
        again = tmp_path / "again.toml"
        arguments = ["--run", folder, "--problems=8", "--annealing-time=2", "--out", again]
        assert run(monkeypatch, capsys, "calibrate", *arguments)[0] == 0
        assert load_settings(again).annealing_time == 2.0

    @pytest.mark.parametrize(("value", "written"), [("50", "50"), ("auto", '"auto"')])
    def test_sweeps_are_a_number_or_auto(self, monkeypatch, capsys, tmp_path, value, written):
        flags = [f"--{k.replace('_', '-')}={v}" for k, v in TINY.items()]
        flags += ["--steps=2", "--sampler=neal", f"--num-sweeps={value}", "--out", tmp_path / "run"]
        assert run(monkeypatch, capsys, "train", *flags)[0] == 0
        settings = (tmp_path / "run" / "config.toml").read_text()
        assert f"num_sweeps = {written}\n" in settings

    def test_sweeps_are_not_another_word(self, monkeypatch, capsys):
        status, _, errors = run(monkeypatch, capsys, "train", "--num-sweeps=many")
        assert status == 2
        assert "'many' is not of type int or 'auto'" in errors

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["train", "--sampler=nael"], "did you mean 'neal'"),
            (["train", "--eval-sampler=nael"], "did you mean 'neal'"),
            (["train", "--sampler=neal", "--schedule=linear"], "has no option 'schedule'"),
            (["train", "--sampler=diabatic", "--schedule=wavy"], "wavy"),
            (["train", "--sampler=diabatic", "--schedule=pyproject.toml"], "pyproject.toml"),
            (["train", "--sampler=neal", "--num-reads=1"], "`num_reads` must be at least 2"),
            (["train", "--sampler=neal", "--num-sweeps=0"], "`num_sweeps` must be positive"),
            (["train", "--sampler=neal", "--ramp-sweeps=5"], "must be 0 with num_sweeps='auto'"),
            (["train", "--sampler=neal", "--buy-again"], "--buy-again goes with --resume"),
            (["train", "--num-reads=50"], "--num-reads has no effect on exact moments"),
            (["train", "--sampler=dwave", "--qpu-budget=banana"], "but is 'banana'"),
            (["train", "--sampler=neal", "--estimator=magic"], "`estimator` must be one of"),
            (["train", "--sampler=diabatic", "--calibration=no.toml"], "existing file"),
            (["calibrate", "--sampler=neal"], "`sampler` must be one of diabatic, qutip"),
            (["calibrate", "--spins=0"], "`num_spins` must be positive, but is 0"),
            (["calibrate", "--spins=40", "--problems=1"], "40"),
            (["calibrate", "--run=nowhere"], "No run in 'nowhere'"),
        ],
    )
    def test_bad_calls_are_one_line(self, monkeypatch, capsys, tmp_path, arguments, message):
        out = tmp_path / "new"
        status, printed, errors = run(monkeypatch, capsys, *arguments, "--out", out)
        assert status == 1
        assert printed == ""
        (error,) = (line for line in errors.splitlines() if not PROGRESS.match(line))
        assert message in error
        assert not out.exists()


def test_synthetic_problems_have_the_spread_asked_for():
    batch = synthetic(2000, 12, field_sd=0.7, coupling_sd=0.2, seed=1)
    assert batch.h.shape == (200, 10, 12)
    rows, cols = torch.triu_indices(12, 12, 1)
    # Relative standard error of a standard deviation: 1/sqrt(2 N); 5 sigma.
    for values, sd in ((batch.h, 0.7), (batch.J[:, rows, cols], 0.2)):
        assert abs(values.std() / sd - 1) < 5 / math.sqrt(2 * values.numel())
    assert torch.equal(synthetic(2000, 12, field_sd=0.7, seed=1).h, batch.h)
    assert not torch.equal(synthetic(2000, 12, field_sd=0.7, seed=2).h, batch.h)
    with pytest.raises(ValueError, match="`coupling_sd` must not be negative"):
        synthetic(10, 4, coupling_sd=-1.0)


def test_problems_from_a_run(tmp_path):
    train(TrainConfig(steps=3, **{**TINY, "layers": 2}), tmp_path / "run")
    batch = from_run(tmp_path / "run", 40)
    assert batch.h.shape == (4, 10, 4)
    assert batch.lengths.min() >= 1
    assert len({int(n) for n in batch.lengths.flatten()}) > 1
    assert batch.J.abs().max() > 0
    train(TrainConfig(steps=3, attention="softmax", **TINY), tmp_path / "softmax")
    with pytest.raises(ValueError, match="has softmax attention: no J"):
        from_run(tmp_path / "softmax", 40)


def test_diabatic_layer_stays_near_the_exact_one():
    torch.manual_seed(0)
    layer = BoltzmannAttention(8, 2, 6, num_reads=2000)
    x = torch.randn(2, 6, 8)
    wanted = layer.weights(x)
    layer.backend = DiabaticBackend(annealing_time=3.0)
    # Reads' noise, and a bias that annealing to first order in the fields leaves.
    assert (layer.weights(x) - wanted).abs().max() < 5 * 0.5 / math.sqrt(2000) + 0.05
