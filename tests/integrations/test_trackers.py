"""Trackers hold what metrics.jsonl holds, once, and never stop a training."""

import json
import logging
import os
import sqlite3
import struct
import subprocess
import sys
import tomllib
from dataclasses import replace
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
from _support.trainings import EVERY, SMALL, assert_same_end

from qattn.integrations import trackers
from qattn.integrations.trackers import Trackers, scalars
from qattn.training import RunFolder, TrainConfig, train

TRACKED = TrainConfig(steps=40, ensemble=2, track="tensorboard", **SMALL, **EVERY)


class Killed(BaseException):
    """The process ends here, for all that the training can do."""


def killed(config, folder, monkeypatch, step=35):
    """A training that ends when it has written the training line of this step."""
    real = RunFolder.append_metrics

    def append_metrics(folder, record):
        real(folder, record)
        if record["step"] == step and "loss" in record:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "append_metrics", append_metrics)
        with pytest.raises(Killed):
            train(config, folder, quiet=True)


def points_of(records):
    """Points by name, as metrics.jsonl has them: (step, value), in float32 as event files."""
    points = {}
    for record in records:
        for name, value in scalars(record).items():
            points.setdefault(name, []).append((record["step"], torch.tensor(value).item()))
    return points


def points_of_events(folder):
    """The same from TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder / "tensorboard"))
    reader.Reload()
    return {
        name: [(event.step, event.value) for event in reader.Scalars(name)]
        for name in reader.Tags()["scalars"]
    }


@pytest.fixture
def services(monkeypatch):
    """A tracker "wandb" that keeps what it is given, by run."""
    runs = {}

    def init(*, project, name, config, resume, id):
        assert resume == "allow"
        run = runs.setdefault(id, SimpleNamespace(project=project, name=name, rows=[], finished=0))
        run.config = config
        run.log = lambda values, step: run.rows.append((step, values))
        package.finish = lambda: setattr(run, "finished", run.finished + 1)
        return run

    package = SimpleNamespace(init=init, __spec__=SimpleNamespace(origin="here"))
    monkeypatch.setitem(sys.modules, "wandb", package)
    return runs


def test_event_files_have_what_the_metrics_have(tmp_path):
    train(TRACKED, tmp_path / "run", quiet=True)
    records = RunFolder(tmp_path / "run").read_metrics()
    points = points_of_events(tmp_path / "run")
    assert points == points_of(records)
    assert {"loss", "loss_members/1", "loss_interval/low", "accuracy", "seconds"} <= points.keys()
    assert len(points["validation_loss"]) == 3
    untracked = replace(TRACKED, track=None)
    train(untracked, tmp_path / "untracked", quiet=True)
    assert_same_end(tmp_path / "run", tmp_path / "untracked")
    assert not (tmp_path / "untracked" / "tensorboard").exists()


def test_a_resumed_run_has_no_point_twice(tmp_path, monkeypatch, services):
    both = replace(TRACKED, track="tensorboard, wandb")
    killed(both, tmp_path / "run", monkeypatch)
    lines = len(RunFolder(tmp_path / "run").read_metrics())
    train(both, tmp_path / "run", resume=True, quiet=True)
    records = RunFolder(tmp_path / "run").read_metrics()
    assert [r["step"] for r in records if "loss" in r] == [7, 14, 21, 28, 35, 40]
    assert points_of_events(tmp_path / "run") == points_of(records)
    (run,) = services.values()
    assert len(run.rows) == len(records) > lines
    for (step, values), record in zip(run.rows, records, strict=True):
        assert step == record["step"]
        assert {n: v for n, v in values.items() if n != "seconds"}.keys() <= scalars(record).keys()
        assert values.get("loss") == record.get("loss")
    assert run.finished == 2


def test_a_tracker_that_comes_later_gets_the_lines_before(tmp_path, monkeypatch, services):
    killed(replace(TRACKED, track=None), tmp_path / "run", monkeypatch)
    train(replace(TRACKED, track="wandb,tensorboard"), tmp_path / "run", resume=True, quiet=True)
    records = RunFolder(tmp_path / "run").read_metrics()
    (run,) = services.values()
    assert run.rows == [(record["step"], scalars(record)) for record in records]
    assert points_of_events(tmp_path / "run") == points_of(records)


@pytest.mark.parametrize("place", ["init", "log", "finish"])
def test_a_tracker_that_fails_is_left_out(tmp_path, monkeypatch, caplog, services, place):
    def fails(*_, **__):
        raise RuntimeError("no route\nto the host.")

    if place == "init":
        monkeypatch.setattr(sys.modules["wandb"], "init", fails)
    else:
        monkeypatch.setattr(trackers.Wandb, place, fails)
    with caplog.at_level(logging.WARNING):
        train(replace(TRACKED, track="wandb,tensorboard"), tmp_path / "run", quiet=True)
    (warning,) = [r.getMessage() for r in caplog.records if "Tracking" in r.getMessage()]
    assert warning == (
        "Tracking with wandb fails, and ends: no route to the host. metrics.jsonl has all lines."
    )
    records = RunFolder(tmp_path / "run").read_metrics()
    assert records[-1]["step"] == 40
    assert points_of_events(tmp_path / "run") == points_of(records)  # the other one goes on


def test_names_and_packages_are_checked_before_anything_is_trained(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="`track` must have names of tensorboard, trackio, wandb"):
        TrainConfig(track="tensorboard,mlflow")
    monkeypatch.setattr(trackers, "find_spec", lambda name: SimpleNamespace(origin=None))
    with pytest.raises(ImportError, match=r"pip install 'boltzmann-attention\[tensorboard\]'"):
        train(TRACKED, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
    train(replace(TRACKED, track=None, steps=2), tmp_path / "run", quiet=True)


def test_trackers_are_told_settings_and_no_secret(tmp_path, monkeypatch, services):
    secret = "DEV-0123456789abcdef"
    credentials = tmp_path / "credentials.toml"
    credentials.write_text(f'[dwave]\ntoken = "{secret}"\n')
    monkeypatch.setenv("DWAVE_API_TOKEN", secret)
    monkeypatch.setenv("WANDB_PROJECT", "spins")
    config = TrainConfig(
        sampler="dwave", credentials=str(credentials), track="wandb,tensorboard", beta="learnable"
    )
    folder = tmp_path / "a run"
    folder.mkdir()
    sent = Trackers(config.track, folder, config.to_toml())
    sent.add({"step": 0, "beta": [[1.0, 2.0]], "beta_kept": [[0, True]], "note": "none"})
    sent.finish()
    (run,) = services.values()
    assert run.config == tomllib.loads(config.to_toml())
    assert run.config["credentials"] == str(credentials)
    assert (run.project, run.name.partition("-")[0]) == ("spins", "a run")
    assert run.rows == [
        (0, {"beta/0/0": 1.0, "beta/0/1": 2.0, "beta_kept/0/0": 0.0, "beta_kept/0/1": 1.0})
    ]
    written = [file.read_bytes() for file in folder.rglob("*") if file.is_file()]
    assert any(b"credentials.toml" in content for content in written)
    assert not any(secret.encode() in content for content in written)
    assert secret not in repr(services)


def test_a_run_that_has_trained_nothing_leaves_no_tracker_behind(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create(TRACKED)
    with folder.tracked(TRACKED):
        folder.append_metrics({"step": 0, "loss": 1.0})
    assert (tmp_path / "run" / "tensorboard").is_dir()
    folder.discard()
    assert not (tmp_path / "run").exists()


OFFLINE = """
import socket, sys
from pathlib import Path
from dataclasses import replace

def nowhere(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "localhost"):
        raise SystemExit(f"reaches for {address}")
    return connect(self, address)

def no_server(self, *_):
    raise SystemExit("opens a server")

connect, socket.socket.connect, socket.socket.listen = socket.socket.connect, nowhere, no_server
from qattn.training import RunFolder, TrainConfig, train

config = TrainConfig(**eval(sys.argv[1]))
append = RunFolder.append_metrics
def dies(folder, record):
    append(folder, record)
    if record["step"] == 35 and "loss" in record:
        raise KeyboardInterrupt
RunFolder.append_metrics = dies
try:
    train(config, Path("run"), quiet=True)
except KeyboardInterrupt:
    RunFolder.append_metrics = append
    train(config, Path("run"), resume=True, quiet=True)
"""


def rows_of_trackio(folder):
    """Steps and numbers of trackio's database, in the order of their coming."""
    with sqlite3.connect(folder / "qattn.db") as database:
        rows = database.execute("select run_name, step, metrics from metrics order by id")
        found = [(name, step, json.loads(values)) for name, step, values in rows]
        (settings,) = database.execute("select config from configs").fetchall()
    return found, json.loads(settings[0])


def rows_of_wandb(file):
    """Steps and numbers of a log of W&B: records in blocks of 32 kB, in the format of LevelDB."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, whole, rows = file.read_bytes(), 7, b"", {}
    while place + 7 <= len(content):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record, whole = Record.FromString(whole), b""
            if record.WhichOneof("record_type") == "history":
                items = {(i.key or "/".join(i.nested_key)): i for i in record.history.item}
                rows[record.history.step.num] = {
                    name: json.loads(item.value_json)
                    for name, item in items.items()
                    if not name.startswith("_")
                }
    return rows


def test_trackio_and_wandb_offline(tmp_path):
    """Real packages in a process of their own, which may reach nothing and serves nothing."""
    names = ["trackio", *(["wandb"] if find_spec("wandb") else [])]
    config = {**SMALL, **EVERY, "steps": 40, "track": ",".join(names)}
    environment = {n: v for n, v in os.environ.items() if not n.startswith(("WANDB", "TRACKIO"))}
    environment |= {
        "HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path),
        "TRACKIO_DIR": str(tmp_path / "trackio"), "HOME": str(tmp_path),
    }  # fmt: skip
    run = subprocess.run(
        [sys.executable, "-c", OFFLINE, repr(config)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    assert "Tracking with" not in run.stderr
    assert run.stdout == ""
    records = RunFolder(tmp_path / "run").read_metrics()
    rows, settings = rows_of_trackio(tmp_path / "trackio")
    assert len({name for name, _, _ in rows}) == 1
    assert settings["attention"] == "boltzmann"
    assert [(step, values.keys()) for _, step, values in rows] == [
        (record["step"], scalars(record).keys()) for record in records
    ]
    kept = {"loss", "validation_loss", "accuracy"}
    for (_, _, values), record in zip(rows, records, strict=True):
        assert {n: values[n] for n in kept & values.keys()} == {
            n: record[n] for n in kept & record.keys()
        }
    if "wandb" in names:
        logs = sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
        assert len({log.name for log in logs}) == 1  # one id
        found = {}
        for log in logs:
            found |= rows_of_wandb(log)
        expected = {}
        for record in records:
            expected.setdefault(record["step"], {}).update(scalars(record))
        assert found.keys() == expected.keys()
        for step, values in expected.items():
            for name in kept & values.keys():
                assert found[step][name] == pytest.approx(values[name])
