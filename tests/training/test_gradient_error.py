"""Gradients from reads beside the exact ones, along the way of a training."""

import json
import os

import pytest
import torch
from _support.qpu_backends import credentials_of
from _support.trainings import EVERY, SMALL, assert_same_end

from qattn.hardware.emulator import EmulatedQPU
from qattn.training import Interrupted, Learner, RunFolder, TrainConfig, train

CONFIG = SMALL | EVERY | {
    "context": 4, "sampler": "gibbs", "num_reads": 20, "steps": 8, "gradient_every": 3,
}  # fmt: skip


def errors_of(run):
    return {
        record["step"]: record.get("gradient_error_members", [record["gradient_error"]])
        for record in RunFolder(run).read_metrics()
        if "gradient_error" in record
    }


def test_errors_of_each_member_where_they_are_due(tmp_path):
    config = TrainConfig(**CONFIG, ensemble=3)
    train(config, tmp_path / "run")
    found = errors_of(tmp_path / "run")
    assert [*found] == [3, 6]
    learner = Learner(config)
    for number in range(6):
        exact = learner.exact_gradient(number)
        learner.step(number)
        if number + 1 in found:
            for member in range(3):
                flat = [
                    (p.grad[member].flatten(), g)
                    for p, g in zip(
                        learner.parameters.values(),
                        exact[member].split([p[0].numel() for p in learner.parameters.values()]),
                        strict=True,
                    )
                    if p.grad is not None
                ]
                off, size = (
                    sum(float(v.square().sum()) for v in each) ** 0.5
                    for each in ([a - b for a, b in flat], [b for _, b in flat])
                )
                assert found[number + 1][member] == pytest.approx(off / size, rel=1e-4)
                assert found[number + 1][member] > 1e-3


def test_members_gradients_are_those_of_their_own_runs(tmp_path):
    """The error of a member is that of a run of its seed, where reads do not differ: there 0."""
    exactly = CONFIG | {"sampler": "exact"}
    together = Learner(TrainConfig(**exactly, ensemble=2)).exact_gradient(0)
    for member in range(2):
        alone = Learner(TrainConfig(**exactly, seed=member)).exact_gradient(0)
        torch.testing.assert_close(together[member], alone[0], rtol=1e-4, atol=1e-6)
    train(TrainConfig(**exactly), tmp_path / "run")
    assert max(max(v) for v in errors_of(tmp_path / "run").values()) < 1e-5


def test_comparing_changes_nothing_of_what_is_learned(tmp_path):
    for name, every in (("with", 1), ("without", None)):
        train(TrainConfig(**CONFIG | {"gradient_every": every}), tmp_path / name)
    states = [RunFolder(tmp_path / n).read_checkpoint() for n in ("with", "without")]
    weights = [state["learner"]["parameters"] for state in states]
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name])


@pytest.mark.parametrize("stop", [2, 3, 4])
def test_a_resumed_run_has_the_same_lines(tmp_path, monkeypatch, stop):
    config = TrainConfig(**CONFIG | {"checkpoint_every": 2})
    train(config, tmp_path / "whole")
    step, died = Learner.step, []

    def dies(learner, number):
        if number == stop and not died:
            died.append(number)
            raise KeyboardInterrupt
        return step(learner, number)

    monkeypatch.setattr(Learner, "step", dies)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "cut")
    train(config, tmp_path / "cut", resume=True)
    assert_same_end(tmp_path / "whole", tmp_path / "cut")
    assert errors_of(tmp_path / "cut") == errors_of(tmp_path / "whole")


def test_an_error_that_cannot_be_written_is_kept_for_later(tmp_path, monkeypatch):
    config = TrainConfig(**CONFIG)
    train(config, tmp_path / "whole")
    append, full = RunFolder.append_metrics, [OSError(28, os.strerror(28))]

    def fails(folder, record):
        if "gradient_error" in record and full:
            raise full.pop()
        append(folder, record)

    monkeypatch.setattr(RunFolder, "append_metrics", fails)
    with pytest.raises(Interrupted, match="at step 3 of 8; checkpoint written"):
        train(config, tmp_path / "cut")
    train(config, tmp_path / "cut", resume=True)
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


def test_a_paid_sampler_is_not_asked_for_the_exact_gradient(tmp_path, packings_are_kept):
    jobs = []
    for every in (None, 1):
        with EmulatedQPU(shape=(2, 4)) as qpu:
            beta = qpu.settings.beta_J
            credentials = str(credentials_of(qpu, packings_are_kept))
            config = CONFIG | {
                "sampler": "dwave", "betas": (beta, beta), "annealing_time": 5.0, "steps": 2,
                "credentials": credentials, "follow_betas": False, "gradient_every": every,
            }  # fmt: skip
            train(TrainConfig(**config), tmp_path / str(every))
            jobs.append(len(qpu.jobs))
    assert jobs[0] == jobs[1] > 0
    summary = json.loads((tmp_path / "1/summary.json").read_text())
    assert summary["emulated"] is True
    assert [*errors_of(tmp_path / "1")] == [1, 2]


def test_memory_is_checked_for_the_exact_gradient(monkeypatch):
    checked = []
    monkeypatch.setattr(TrainConfig, "_check_memory", lambda config: checked.append(config.context))
    for every in (None, 5):
        TrainConfig(**CONFIG | {"eval_sampler": "gibbs", "gradient_every": every}).check_here()
    assert checked == [4]


def test_gradient_every_must_be_positive():
    with pytest.raises(ValueError, match="`gradient_every` must be at least 1, but is 0"):
        TrainConfig(gradient_every=0)
