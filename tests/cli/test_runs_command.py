"""`qattn runs`: what it says of runs, finished, stopped and damaged."""

import json
import os

import pytest
from _support.command_line import run
from _support.trainings import EVERY, SMALL

from qattn.fitting import FitConfig, FitFolder
from qattn.training import Interrupted, RunFolder, TrainConfig, train
from qattn.training.runs import find_runs, read_entry

pytestmark = pytest.mark.usefixtures("as_users_call")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A finished ensemble, a run that was stopped, and two folders that cannot be read."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "runs"
    train(TrainConfig(steps=8, ensemble=3, **SMALL, **EVERY), root / "three", quiet=True)
    asked = iter([False] * 7)
    stopped = TrainConfig(steps=30, couplings="banded", **SMALL, **EVERY)
    with pytest.raises(Interrupted):
        train(stopped, root / "deep" / "stopped", stop=lambda: next(asked, True), quiet=True)
    for name, file, text in (
        ("typo", "config.toml", "stepz = 3\n"),
        ("cut", "metrics.jsonl", '{"loss": 1}\n'),
    ):
        (root / name).mkdir()
        (root / name / file).write_text(text)
    (root / "no-run").mkdir()
    return root


def test_lists_what_there_is(folder, monkeypatch, capsys):
    status, printed, _ = run(monkeypatch, capsys, "runs", "--json")
    assert status == 0
    found = {entry["folder"]: entry for entry in json.loads(printed)}
    assert [*found] == ["runs/cut", "runs/deep/stopped", "runs/three", "runs/typo"]

    three, last = found["runs/three"], RunFolder(folder / "three").read_metrics()[-1]
    assert (three["kind"], three["task"], three["attention"]) == ("train", "brackets", "boltzmann")
    assert (three["seed"], three["ensemble"], three["context"]) == (0, 3, SMALL["context"])
    assert (three["step"], three["steps"], three["finished"]) == (8, 8, True)
    assert three["validation_loss"] == last["validation_loss"]
    assert three["validation_loss_interval"] == last["validation_loss_interval"]
    assert (three["metric"], three["value"]) == ("accuracy", last["accuracy"])
    assert three["interval"] == last["accuracy_interval"]
    assert three["seconds"] > 0

    stopped = found["runs/deep/stopped"]
    assert (stopped["step"], stopped["steps"], stopped["finished"]) == (7, 30, False)
    assert stopped["attention"] == "boltzmann (banded)"
    assert stopped["interval"] is None

    assert "stepz" in found["runs/typo"]["problem"]
    assert "did you mean `steps`?" in found["runs/typo"]["problem"]
    assert "it has no config.toml" in found["runs/cut"]["problem"]
    assert all(entry["date"] for entry in found.values())


def test_a_table_for_readers(folder, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "160")
    status, printed, _ = run(monkeypatch, capsys, "runs")
    assert status == 0
    rows = {line.split("│")[1].strip(): line for line in printed.splitlines() if "│" in line}
    assert "8, done" in rows["three"]
    assert "0 to 2" in rows["three"]
    assert "±" in rows["three"]
    assert "7 of 30" in rows["deep/stopped"]
    assert "cannot be read" in rows["typo"]
    assert "runs/typo: 'runs/typo/config.toml' has an unknown setting" in printed


def test_orders(folder, monkeypatch, capsys):
    def order(by):
        printed = run(monkeypatch, capsys, "runs", "--json", "--sort", by)[1]
        return [entry["folder"].rpartition("/")[2] for entry in json.loads(printed)]

    assert order("step")[:2] == ["stopped", "three"]
    os.utime(folder / "cut" / "metrics.jsonl", (2e9, 2e9))
    assert order("date")[-1] == "cut"
    losses = {name: read_entry(folder / name).validation_loss for name in ("three", "deep/stopped")}
    assert order("loss")[0] == min(losses, key=losses.get).rpartition("/")[2]
    assert set(order("loss")[2:]) == {"typo", "cut"}  # what has none comes last


def test_a_run_that_is_to_go_on_is_not_finished(folder):
    three = RunFolder(folder / "three")
    text = three.config_file.read_text().replace("steps = 8", "steps = 9")
    three.config_file.write_text(text)
    entry = read_entry(folder / "three")
    assert (entry.step, entry.steps, entry.finished) == (8, 9, False)


def test_a_damaged_summary_is_said(folder):
    (folder / "three" / "summary.json").write_text("{")
    assert "Cannot read" in read_entry(folder / "three").problem


def test_fits_of_samplers_are_listed_too(tmp_path):
    fit = FitFolder(tmp_path / "fit")
    fit.create(FitConfig(problems="sk:spins=6,problems=1", steps=20))
    fit.append_metrics({"step": 10, "seconds": 0.5, "F": -1.0})
    entry = read_entry(tmp_path / "fit")
    assert (entry.kind, entry.task, entry.step) == ("fit-sampler", "sk:spins=6,problems=1", 10)
    assert not entry.finished
    fit.write_summary({"steps": 20, "ess": 0.75})
    entry = read_entry(tmp_path / "fit")
    assert (entry.metric, entry.value, entry.step, entry.finished) == ("ess", 0.75, 20, True)


def test_no_folder_and_no_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    status, _, said = run(monkeypatch, capsys, "runs")
    assert (status, said) == (1, "Error: No folder runs: runs are written to runs/, or to --out.\n")
    (tmp_path / "runs").mkdir()
    assert run(monkeypatch, capsys, "runs")[:2] == (0, "No runs in runs.\n")
    assert find_runs(tmp_path / "runs") == []
