"""The command line as its users meet it."""

import json
import subprocess
import sys

import pytest
from _support.command_line import run

import qattn
from qattn.cli.app import COMMANDS, load_command

pytestmark = pytest.mark.usefixtures("as_users_call")

SMALL = ["--context=4", "--width=8", "--heads=2", "--layers=1", "--steps=20", "--batch-size=8"]


@pytest.mark.parametrize("attention", ["boltzmann", "softmax", "sigmoid", "couplings"])
def test_train_ends_with_plots(monkeypatch, capsys, tmp_path, attention):
    out = tmp_path / "deep" / "run"
    arguments = ["train", *SMALL, "--attention", attention, "--out", out]
    status, printed, _ = run(monkeypatch, capsys, *arguments)
    assert status == 0
    assert "validation accuracy" in printed
    names = {"learning_curves.png", "attention.png"}
    if attention in ("boltzmann", "couplings"):
        names |= {"couplings.png", "couplings_by_distance.png"}
    assert {p.name for p in out.glob("*.png")} == names
    assert all(str(out / name) in printed for name in names)
    assert json.loads((out / "summary.json").read_text())["attention"] == attention


def test_ensemble_reports_mean_and_interval(monkeypatch, capsys, tmp_path):
    out = tmp_path / "run"
    status, printed, _ = run(
        monkeypatch, capsys, "train", *SMALL, "--ensemble=3", "--log-every=5", "--out", out
    )
    assert status == 0
    assert "(95% " in printed
    summary = json.loads((out / "summary.json").read_text())
    assert len(summary["accuracy_members"]) == 3
    low, high = summary["validation_loss_interval"]
    assert low < summary["validation_loss"] < high


def test_flags_win_over_the_configuration_file(monkeypatch, capsys, tmp_path):
    (tmp_path / "run.toml").write_text("context = 4\nwidth = 8\nheads = 2\nsteps = 3\nlr = 0.5\n")
    out = tmp_path / "run"
    arguments = ["train", "--config", tmp_path / "run.toml", "--steps=5", "--lr=0.001"]
    status, _, _ = run(monkeypatch, capsys, *arguments, "--out", out)
    assert status == 0
    config = (out / "config.toml").read_text()
    assert "steps = 5" in config
    assert "lr = 0.001" in config
    assert "width = 8" in config


def test_resume_keeps_settings(monkeypatch, capsys, tmp_path):
    out = tmp_path / "run"
    run(monkeypatch, capsys, "train", *SMALL, "--out", out)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    status, _, errors = run(monkeypatch, capsys, "train", "--resume", out, "--lr=0.5")
    assert status == 1
    assert "Cannot resume" in errors
    assert "it was started with lr = 0.001" in errors
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    status, _, errors = run(monkeypatch, capsys, "train", "--resume", out, "--steps=10")
    assert "Only --steps may grow" in errors
    status, _, _ = run(monkeypatch, capsys, "train", "--resume", out, "--steps=30")
    assert status == 0
    assert json.loads((out / "summary.json").read_text())["steps"] == 30
    assert "steps = 30" in (out / "config.toml").read_text()


def bad_calls(tmp_path):
    existing = tmp_path / "existing"
    existing.mkdir()
    (existing / "mine.txt").write_text("keep me")
    blocked = tmp_path / "file"
    blocked.write_text("a file, not a folder")
    new = ["--out", tmp_path / "new"]
    return {
        "unknown task": (["--task=chess", *new], "`task` must be one of brackets, shakespeare"),
        "unknown arm": (["--attention=linear", *new], "`attention` must be one of"),
        "unknown sampler": (
            ["--sampler=magic", *new],
            "must be a registered backend, but is 'magic'",
        ),
        "odd context": (["--context=5", *new], "`context` must be even and positive"),
        "too many spins": (["--context=40", *new], "40 spins in float32 needs about"),
        "width": (["--width=30", *new], "`width` must be a multiple of heads"),
        "steps": (["--steps=0", *new], "`steps` must be at least 1"),
        "device": (["--device=cuda:99", *new], "`device` is 'cuda:99', which fails here"),
        "no data": (["--task=shakespeare", "--data=no.txt", *new], "No text at no.txt"),
        "no config": (["--config=no.toml", *new], "No configuration file at no.toml"),
        "existing": (["--out", existing], "There is a folder that is not one of a run at"),
        "existing file": (["--out", blocked], "There is a file at"),
        "unwritable": (["--out", blocked / "run"], "Cannot make the run's folder"),
        "resume nothing": (["--resume", tmp_path / "none"], "No run in"),
        "resume and out": (["--resume", existing, *new], "drop --out and --config"),
        "budget before betas": (
            ["--sampler=dwave", "--qpu-budget=banana", *new],
            "but is 'banana'",
        ),
    }


@pytest.mark.parametrize("case", range(15))
def test_bad_calls_are_one_line_and_touch_nothing(monkeypatch, capsys, tmp_path, case):
    arguments, message = list(bad_calls(tmp_path).values())[case]
    before = {p: p.read_text() for p in tmp_path.rglob("*") if p.is_file()}
    status, printed, errors = run(monkeypatch, capsys, "train", *arguments)
    assert status == 1
    assert printed == ""
    assert errors.startswith("Error: ")
    assert len(errors.splitlines()) == 1
    assert message in errors
    assert {p: p.read_text() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert not (tmp_path / "new").exists()


def test_compare_trainings(monkeypatch, capsys, tmp_path):
    out = tmp_path / "comparison"
    (tmp_path / "short.toml").write_text(
        "context = 4\nwidth = 8\nheads = 2\nlayers = 1\nsteps = 4\nbatch_size = 8\neval_every = 2\n"
    )
    arguments = ["compare", "--training", "--samplers=exact,neal", "--seeds=2", "--num-reads=20"]
    arguments += ["--config", tmp_path / "short.toml", "--out", out]
    status, printed, errors = run(monkeypatch, capsys, *arguments)
    assert status == 0, errors
    assert {"training.json", "training.html", "curves.jsonl"} <= {p.name for p in out.iterdir()}
    assert printed.endswith(f"{out / 'training.json'}\n{out / 'training.html'}\n")
    report = json.loads((out / "training.json").read_text())
    assert report["command"].startswith("qattn compare --training --samplers=exact,neal")
    assert report["created"].endswith(" UTC")
    assert [curve["steps"] for curve in report["curves"]] == [[0, 2, 4]] * 4


def test_unknown_flag_and_version(monkeypatch, capsys):
    status, _, errors = run(monkeypatch, capsys, "train", "--step=3")
    assert status == 2
    assert "No such option" in errors
    assert "Traceback" not in errors
    assert run(monkeypatch, capsys, "--version")[:2] == (0, f"{qattn.__version__}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_summaries_are_those_of_the_commands(name):
    assert load_command(name).help.partition("\n")[0] == COMMANDS[name]


def test_help_does_not_import_torch():
    script = "import sys; from qattn.cli import main; sys.argv = ['qattn', '--help']; main()"
    watch = "import atexit, sys; atexit.register(lambda: print(*sorted(sys.modules)));"
    printed = subprocess.run(
        [sys.executable, "-c", watch + script], check=True, capture_output=True, text=True
    ).stdout
    assert all(name in printed for name in COMMANDS)
    imported = set(printed.splitlines()[-1].split())
    assert "qattn.cli.app" in imported
    assert not {"torch", "qutip", "dwave.system", "matplotlib", "scipy"} & imported


def test_import_is_quick_and_names_are_there():
    script = "import sys, qattn; print(*sorted(sys.modules))"
    imported = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not {"torch", "qutip", "dwave.system", "matplotlib", "scipy.stats"} & set(imported)
    for name in qattn.__all__:
        assert getattr(qattn, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = qattn.nothing
    assert set(qattn.__all__) <= set(dir(qattn))


def test_folders_are_importable_under_one_name():
    import qattn.hardware
    import qattn.simulators

    assert qattn.hardware.__name__ == "qattn.hardware"
    assert qattn.simulators.__name__ == "qattn.simulators"
