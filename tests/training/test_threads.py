"""Threads of a run: how many are chosen, where the number is recorded, and changing it."""

import json
import os

import pytest
import torch
from _support.command_line import run
from _support.trainings import SMALL

from qattn.training import RunFolder, TrainConfig, train
from qattn.training.environment import SMALL_TENSOR, choose_threads

TINY = {name: value for name, value in SMALL.items() if name != "threads"}


@pytest.fixture
def six_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)


@pytest.mark.usefixtures("six_cores")
@pytest.mark.parametrize("attention", ["boltzmann", "couplings", "softmax"])
def test_a_small_model_takes_one_thread_and_a_large_one_all_cores(attention):
    assert choose_threads(TrainConfig(attention=attention, **TINY)) == 1
    # The hidden layer of the feed-forward network has batch · context · 4 width numbers.
    width = SMALL_TENSOR // (4 * 64 * 16)
    settings = {"attention": attention, "batch_size": 64, "context": 16, "heads": 1}
    assert choose_threads(TrainConfig(width=2 * width, **settings)) == 6


@pytest.mark.usefixtures("six_cores")
def test_many_spins_take_all_cores_where_their_states_are_enumerated():
    settings = {"context": 20, "batch_size": 8, "heads": 8}
    assert choose_threads(TrainConfig(attention="boltzmann", **settings)) == 6
    assert choose_threads(TrainConfig(attention="softmax", **settings)) == 1


@pytest.mark.parametrize(("given", "used"), [({}, 1), ({"threads": 2}, 2)])
def test_the_number_is_recorded(tmp_path, given, used):
    before = torch.get_num_threads()
    summary = train(TrainConfig(steps=2, **TINY, **given), tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    assert folder.read_config().threads == used
    assert f"threads = {used}" in folder.config_file.read_text()
    assert summary["threads"] == used
    assert json.loads(folder.summary_file.read_text())["threads"] == used
    assert torch.get_num_threads() == before  # the caller's


@pytest.mark.usefixtures("as_users_call")
def test_resuming_with_another_number_says_so_once(monkeypatch, capsys, tmp_path):
    out = tmp_path / "run"
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]
    run(monkeypatch, capsys, "train", *flags, "--threads=1", "--steps=2", "--out", out)
    folder = RunFolder(out)
    resumed = ("train", "--resume", out)
    status, _, errors = run(monkeypatch, capsys, *resumed, "--threads=2", "--steps=4")
    assert status == 0
    line = "Resuming with 2 threads instead of 1: weights may differ in their last bits"
    assert " ".join(errors.split()).count(line) == 1
    assert folder.read_config().threads == 2
    assert json.loads(folder.summary_file.read_text())["threads"] == 2
    # The new number is the run's from now on, and nothing is said where it stays.
    for same in ([], ["--threads=2"]):
        status, _, errors = run(monkeypatch, capsys, *resumed, *same, "--steps=4")
        assert status == 0
        assert "threads" not in errors
        assert folder.read_config().threads == 2
