"""Runs: what they write, resuming to the bit, being killed, being interrupted."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from _support.trainings import EVERY, SMALL, assert_same_end

from qattn.training import Interrupted, Learner, RunFolder, TrainConfig, read_settings, train
from qattn.training.summary import described


def test_a_run_writes_what_is_needed_to_repeat_and_read_it(tmp_path):
    config = TrainConfig(steps=45, **SMALL, **EVERY)
    summary = train(config, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    assert folder.read_config() == config
    assert summary == json.loads(folder.summary_file.read_text())
    wanted = {"task", "attention", "sampler", "context", "seed", "steps", "validation_loss"}
    assert wanted | {"accuracy", "seconds_per_step"} <= summary.keys()
    assert 0 < summary["sampling_share"] < 1
    steps = [r["step"] for r in folder.read_metrics() if "loss" in r]
    assert steps == [7, 14, 21, 28, 35, 42, 45]
    assert [r["step"] for r in folder.read_metrics() if "accuracy" in r] == [0, 20, 40, 45]
    # The loss of a line is the mean over its steps.
    learner = Learner(config)
    losses = [learner.step(number).item() for number in range(45)]
    lines = [r["loss"] for r in folder.read_metrics() if "loss" in r]
    assert lines[0] == pytest.approx(sum(losses[:7]) / 7, rel=1e-6)
    assert lines[-1] == pytest.approx(sum(losses[42:]) / 3, rel=1e-6)
    assert train(config, tmp_path / "again")["accuracy"] == summary["accuracy"]
    assert_same_end(tmp_path / "run", tmp_path / "again")


@pytest.mark.parametrize("ensemble", [1, 2])
def test_resuming_equals_not_stopping(tmp_path, monkeypatch, ensemble):
    config = TrainConfig(steps=45, ensemble=ensemble, **SMALL, **EVERY)
    train(config, tmp_path / "whole")
    real_step, stop_at = Learner.step, [13, 31]

    def step(self, number):
        if stop_at and number == stop_at[0]:
            stop_at.pop(0)
            raise KeyboardInterrupt
        return real_step(self, number)

    monkeypatch.setattr(Learner, "step", step)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "parts", resume=True)
    train(config, tmp_path / "parts", resume=True)
    assert_same_end(tmp_path / "whole", tmp_path / "parts")


def test_more_steps_continue_a_finished_run(tmp_path):
    short = TrainConfig(steps=20, **SMALL, **EVERY)
    train(short, tmp_path / "grown")
    longer = TrainConfig(steps=40, **SMALL, **EVERY)
    train(longer, tmp_path / "grown", resume=True)
    train(longer, tmp_path / "whole")
    a, b = (RunFolder(tmp_path / name).read_checkpoint() for name in ("grown", "whole"))
    for name, value in a["learner"]["parameters"].items():
        assert torch.equal(value, b["learner"]["parameters"][name])
    # The line after the old end is a mean over the steps since then.
    learner = Learner(longer)
    losses = [learner.step(number).item() for number in range(21)]
    (line,) = [r for r in RunFolder(tmp_path / "grown").read_metrics() if r["step"] == 21][:1]
    assert line["loss"] == pytest.approx(losses[20], rel=1e-6)


def command(*arguments):
    return [sys.executable, "-c", "from qattn.cli.app import main; main()", "train", *arguments]


FLAGS = [f"--{k.replace('_', '-')}={v}" for k, v in (SMALL | EVERY).items()]


def wait_for_lines(path, count, process):
    deadline = time.monotonic() + 300
    while not path.is_file() or len(path.read_text().splitlines()) < count:
        assert process.poll() is None, "the run ended before it could be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_kill_minus_nine_then_resume(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    flags = [*FLAGS, "--steps=1500"]
    process = subprocess.Popen(command(*flags, f"--out={killed}"), stderr=subprocess.DEVNULL)
    wait_for_lines(killed / "metrics.jsonl", 40, process)
    process.kill()
    process.wait()
    assert not (killed / "summary.json").exists()
    with (killed / "metrics.jsonl").open("a") as file:
        file.write('{"step": 99')  # a line cut off by the kill
    subprocess.run(command("--resume", str(killed)), check=True, capture_output=True)
    subprocess.run(command(*flags, f"--out={whole}"), check=True, capture_output=True)
    assert_same_end(whole, killed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_with_a_checkpoint_and_says_how_to_resume(tmp_path, number):
    out = tmp_path / "run"
    process = subprocess.Popen(
        command(*FLAGS, "--steps=100000", "--checkpoint-every=100000", f"--out={out}"),
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_lines(out / "metrics.jsonl", 5, process)
    os.kill(process.pid, number)
    _, messages = process.communicate(timeout=300)
    assert process.returncode == 130
    last = messages.strip().splitlines()[-1]
    assert "Traceback" not in messages
    assert f"Continue with: qattn train --resume {out}" in last
    state = RunFolder(out).read_checkpoint()
    assert f"Stopped at step {state['progress']['step']} of 100000" in last


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    real_step = Learner.step

    def step(self, number):
        return real_step(self, number) + (float("nan") if number == 25 else 0.0)

    monkeypatch.setattr(Learner, "step", step)
    message = r"diverged at step 26: the loss is nan\. Lower --lr .*checkpoint of step 20 in"
    with pytest.raises(FloatingPointError, match=message):
        train(TrainConfig(steps=45, **SMALL, **EVERY), tmp_path / "run")
    assert RunFolder(tmp_path / "run").read_checkpoint()["progress"]["step"] == 20


@pytest.mark.parametrize("ensemble", [1, 2])
@pytest.mark.parametrize("attention", ["softmax", "sigmoid", "couplings", "boltzmann"])
def test_every_arm_diverges_in_one_line(tmp_path, attention, ensemble):
    config = TrainConfig(
        attention=attention, ensemble=ensemble, steps=60, lr=1e20, warmup=1, **SMALL, **EVERY
    )
    who = r"with seed 0, 1 " if ensemble == 2 else ""
    with pytest.raises(
        FloatingPointError, match=f"The training {who}diverged at step [0-9]: (the|its)"
    ):
        train(config, tmp_path / "run")
    weights = RunFolder(tmp_path / "run").read_checkpoint()["learner"]["parameters"]
    assert all(bool(value.isfinite().all()) for value in weights.values())


def test_members_that_diverge_are_named(tmp_path, monkeypatch):
    real_step = Learner.step

    def step(self, number):
        losses = real_step(self, number)
        if number == 12:  # the loss is still finite, and the weights no longer
            next(iter(self.parameters.values())).data[1].view(-1)[0] = float("inf")
        return losses

    monkeypatch.setattr(Learner, "step", step)
    config = TrainConfig(steps=45, ensemble=3, seed=7, **SMALL, **EVERY)
    with pytest.raises(FloatingPointError, match="training with seed 8 diverged at step 13"):
        train(config, tmp_path / "run")
    assert RunFolder(tmp_path / "run").read_checkpoint()["progress"]["step"] == 10


def test_interrupted_is_not_an_error_type():
    assert not issubclass(Interrupted, (ValueError, OSError))


def test_interval_of_an_ensemble():
    found = described("x", [1.0, 2.0, 3.0])
    # Student's t with two degrees of freedom: 4.303 standard errors of 1/sqrt(3).
    assert found["x"] == 2.0
    assert found["x_interval"] == pytest.approx(
        [2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5], rel=1e-4
    )
    assert described("x", [1.5]) == {"x": 1.5}


def test_coupling_learning_rate_factor():
    learner = Learner(TrainConfig(coupling_lr_factor=3.0, lr=0.01, warmup=0, **SMALL))
    before = {k: v.detach().clone() for k, v in learner.parameters.items()}
    learner.step(0)
    # Adam's first step is the learning rate times the sign of the gradient.
    moved = {k: (v - before[k]).abs().max().item() for k, v in learner.parameters.items()}
    for name, distance in moved.items():
        wanted = 0.03 if name.endswith(("coupling_values", "field_bias")) else 0.01
        assert distance == pytest.approx(wanted, rel=1e-2), name


def test_learning_rate_rises_linearly_and_then_stays():
    learner = Learner(TrainConfig(coupling_lr_factor=3.0, lr=0.01, warmup=4, **SMALL))
    for number, share in ((0, 0.25), (1, 0.5), (3, 1.0), (4, 1.0), (100, 1.0)):
        learner.step(number)
        rates = [group["lr"] for group in learner.optimizer.param_groups]
        assert rates == pytest.approx([0.01 * share, 0.03 * share])


def test_settings_file(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('task = "brackets"\nlr = 1\nffn = false\n')
    assert read_settings(path) == {"task": "brackets", "lr": 1.0, "ffn": False}
    for value in (50, "auto"):
        path.write_text(TrainConfig(num_sweeps=value).to_toml())
        assert read_settings(path)["num_sweeps"] == value
    for text, message in (
        ("num_sweeps = 'many'", "`num_sweeps` in .* must be of type int or 'auto', but is 'many'"),
        ("num_sweeps = 1.5", "must be of type int or 'auto', but is 1.5"),
        ("learning_rate = 1.0", "unknown setting `learning_rate`; the command.s --help lists all"),
        ("contxt = 4", "unknown setting `contxt`: did you mean `context`"),
        ("[train]\nsteps = 3", "`train`: settings stand at the top level, not in tables"),
        ("betas = [1.0]", "`betas` in .* must be of type"),
        ("betas = ['a', 'b']", "`betas` in .* must be of type"),
        (f"seed = {2**63}", "`seed` must be at most"),
        ("steps = 1.5", "`steps` in .* must be of type int, but is 1.5"),
        ("steps = true", "must be of type int"),
        ("steps =", "is not a TOML file"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            TrainConfig(**read_settings(path))
    with pytest.raises(FileNotFoundError, match="No configuration file"):
        read_settings(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "chess"}, "`task` must be one of brackets, shakespeare, text, but is 'chess'"),
        ({"attention": "linear"}, "`attention` must be one of boltzmann"),
        ({"sampler": "magic"}, "must be a registered backend, but is 'magic'"),
        ({"steps": 0}, "`steps` must be at least 1, but is 0"),
        ({"lr": float("nan")}, "`lr` must be positive and finite, but is nan"),
        ({"weight_decay": -1.0}, "`weight_decay` must not be negative"),
        ({"width": 10}, "`width` must be a multiple of heads = 4, but is 10"),
        ({"device": "abacus"}, "`device` is 'abacus', which fails here"),
    ],
)
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**change).check_here()


def test_too_many_spins_are_refused_before_anything_is_made():
    with pytest.raises(MemoryError, match="36 spins in float32 needs about"):
        TrainConfig(context=36).check_here()
    assert TrainConfig(context=36, attention="sigmoid").context == 36
