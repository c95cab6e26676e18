"""The commands on experiments: list, run, status and report."""

import json
import os
import re
import signal
from dataclasses import replace

import pytest
from _support.command_line import run
from _support.experiments import TINY, end, start, tiny, until
from filelock import FileLock
from rich.console import Console

from qattn.cli.experiment.asked import Asked
from qattn.experiments import Results, Store, available_experiments, collect
from qattn.experiments.standing import Standing, in_words, last_step
from qattn.training import Interrupted, train

pytestmark = pytest.mark.usefixtures("as_users_call")


@pytest.fixture
def file(nobodys_machine):
    path = nobodys_machine / "tiny.toml"
    path.write_text(TINY)
    return path


def words(text):
    return re.sub(r"[^\w/.:%'-]+", " ", text)


def test_what_there_is(monkeypatch, capsys, nobodys_machine):
    status, printed, _ = run(monkeypatch, capsys, "experiment", "list")
    assert status == 0
    assert all(name in printed for name in available_experiments())
    assert run(monkeypatch, capsys, "experiment", "report") == (0, "", "")
    assert not list(nobodys_machine.iterdir())


def test_status_of_done_failed_running_and_waiting(monkeypatch, capsys, nobodys_machine):
    grid = "\n[grid]\nlr = [1e-3, 2e-3]\n"
    (nobodys_machine / "tiny.toml").write_text(TINY + grid)
    store, trainings = Store(nobodys_machine / "experiments"), tiny(text=TINY + grid).trainings()
    done, half, failed, _ = trainings
    store.train(done, quiet=True)
    left = iter([False] * 20 + [True])
    with pytest.raises(Interrupted):
        store.train(half, stop=lambda: next(left), quiet=True)
    store.failure_file(failed).parent.mkdir()
    store.failure_file(failed).write_text("Traceback\nFloatingPointError: diverged\n")
    console = Console(highlight=False, width=200)
    monkeypatch.setattr("qattn.cli.experiment.status.console", console)
    with FileLock(f"{store.run(half).path}.lock"):
        printed = run(monkeypatch, capsys, "experiment", "status", "tiny.toml")[1]
    lines = [words(line) for line in printed.splitlines() if "softmax" in line or "boltz" in line]
    assert "lr 0.001 0 1 40 of 40 done" in lines[0]
    assert re.search(r"lr 0.001 0 1 20 of 40 \d+ s in training", lines[1])
    assert re.search(r"lr 0.002 0 1 0 of 40 \d+ s failed: FloatingPointError: diverged", lines[2])
    assert re.search(r"lr 0.002 0 1 0 of 40 \d+ s waiting", lines[3])
    assert re.search(r"tiny 1 of 4 60 of 160 \d+ s", words(printed))
    after = run(monkeypatch, capsys, "experiment", "status", "tiny.toml")[1]
    assert "in training" not in after


def test_time_that_is_left(tmp_path):
    store, (softmax, boltzmann) = Store(tmp_path), tiny().trainings()
    assert Standing([softmax, boltzmann], store).time_left() == "not known yet"
    metrics = store.run(softmax).metrics_file
    metrics.parent.mkdir(parents=True)
    line = json.dumps({"step": 10, "seconds": 100.0}) + "\n"
    metrics.write_text(line + json.dumps({"step": 10, "accuracy": 1.0}) + '\n{"step": 15, "sec')
    assert last_step(metrics) == (10, 100.0)
    # 30 steps of softmax at 10 s, and 40 of Boltzmann at the pace of what is like it.
    standing = Standing([softmax, boltzmann], store)
    assert (standing.steps_made, standing.steps) == (10, 80)
    assert standing.time_left() == in_words(700)
    assert standing.time_left(workers=2) == in_words(400)
    (longer, _) = tiny(text=TINY.replace("context = 6", "context = 7")).trainings()
    assert Standing([softmax, longer], store).time_left() == "more than " + in_words(300)


def test_a_run_that_went_on_to_more_steps_is_not_the_one_that_is_asked_for(tmp_path):
    experiment, store = tiny(), Store(tmp_path)
    (training, _) = experiment.trainings()
    store.train(training, quiet=True)
    train(replace(training.config, steps=60), store.run(training).path, resume=True, quiet=True)
    results = collect(experiment, [training], store)
    assert results.trainings == []
    assert results.missing[0].failure == "Its config.toml must have steps = 40, but says 60"
    standing = Standing([training], store)
    assert (standing.done, standing.time_left()) == (0, "nothing")


def test_results_of_another_text_have_a_folder_of_their_own(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("To be, or not to be: that is the question. " * 10)
    for task, name in (("brackets", r"tiny-steps3"), ("shakespeare", r"tiny-steps3-text\w{8}")):
        experiment = tiny(text=TINY.replace("brackets", task))
        folder = Asked(experiment, tmp_path, steps=3, data=text).folder
        assert re.fullmatch(name, folder.name)


def test_what_cannot_be_run(monkeypatch, capsys, file):
    status, _, errors = run(monkeypatch, capsys, "experiment", "run", "no-such-one")
    assert status == 1
    assert f"must be one of {', '.join(available_experiments())}, or the path of" in errors
    arguments = ["experiment", "run", file, "--only", "softmaxx"]
    status, _, errors = run(monkeypatch, capsys, *arguments)
    assert status == 1
    assert "`only` must name trainings of tiny, but is ['softmaxx']; its arms: /boltzmann" in errors
    arguments = ["experiment", "run", "shakespeare-arms"]
    status, _, errors = run(monkeypatch, capsys, *arguments)
    assert status == 1
    assert "give a text with --data FILE, or fetch Tiny Shakespeare with --download" in errors
    assert [path.name for path in file.parent.iterdir()] == ["tiny.toml"]


def test_run_ends_with_the_report_and_lists_what_failed(monkeypatch, capsys, file, one_worker_here):
    arm = 'diverging = { attention = "softmax", lr = 1e30 }\n'
    file.write_text(TINY.replace("[arms]\n", f"[arms]\n{arm}"))
    arguments = ["experiment", "run", file, "--scheduler", one_worker_here]
    status, printed, errors = run(monkeypatch, capsys, *arguments, "--only=softmax")
    assert status == 0, errors
    assert "tiny: 1 trainings, 0 of them done" in errors
    results = Results.read(file.parent / "experiments" / "tiny" / "results.json")
    assert [t.arm for t in results.trainings] == ["softmax"]
    assert [t.arm for t in results.missing] == ["diverging", "boltzmann"]
    status, printed, errors = run(monkeypatch, capsys, *arguments)
    assert status == 1
    assert "tiny: 3 trainings, 1 of them done" in errors
    (line,) = [line for line in errors.splitlines() if line.startswith("Failed: ")]
    assert "brackets-softmax-T6-seeds0-1-" in line
    assert "diverged at step" in line
    assert printed.splitlines() == [
        f"experiments/tiny/{name}" for name in ("results.json", "report.md", "report.html")
    ]
    assert all((file.parent / path).is_file() for path in printed.splitlines())
    # A trial has a folder of its own; what is done needs no cluster.
    trial = [*arguments[:3], "--seeds=1", "--only=boltzmann", "--steps=20"]
    assert run(monkeypatch, capsys, *trial, "--scheduler", one_worker_here)[0] == 0
    assert run(monkeypatch, capsys, *trial, "--scheduler", "nowhere")[0] == 0
    assert (file.parent / "experiments" / "tiny-seeds1-steps20" / "report.html").is_file()


@pytest.mark.slow
def test_a_trial_of_the_catalogue_with_ctrl_c_in_between(nobodys_machine):
    log = nobodys_machine / "log.txt"
    arguments = ["experiment", "run", "brackets-arms", "--seeds=2", "--steps=50"]
    runs = nobodys_machine / "experiments" / "runs"
    process = start("qattn", *arguments, cwd=nobodys_machine, log=log)
    try:
        until(lambda: list(runs.glob("*/summary.json")))
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
        assert process.wait(120) == 130, log.read_text()
    finally:
        end(process)
    said = log.read_text()
    assert re.search(r"Stopped: .* [1-7] of 8 trainings are done\. Go on with: qattn exp", said)
    assert "Dask's dashboard: http://127.0.0.1:" in said
    assert "Traceback" not in said
    sessions = {path: path.read_text() for path in runs.glob("*/provenance.json")}
    done = {path.parent for path in runs.glob("*/summary.json")}
    process = start("qattn", *arguments, cwd=nobodys_machine, log=log)
    try:
        assert process.wait(300) == 0, log.read_text()
    finally:
        end(process)
    assert len(list(runs.glob("*/summary.json"))) == 8
    for path, before in sessions.items():
        assert (path.read_text() == before) == (path.parent in done)
    report = nobodys_machine / "experiments" / "brackets-arms-seeds2-steps50" / "report.html"
    assert report.is_file()
    assert not [path for path in report.parent.parent.iterdir() if path.name.startswith(".shared")]
