"""The one format of calibrations: each use refuses the other's file, and files are kept whole."""

import json
import os
from pathlib import Path

import pytest
from _support.command_line import run
from _support.qpu_backends import write_calibration

from qattn.hardware.emulator import EmulatedQPU
from qattn.simulators.settings import AnnealSettings

TINY = ("--task=brackets", "--context=4", "--layers=1", "--steps=1", "--batch-size=2")
FOR_SIMULATORS, FOR_QPUS = "`qattn calibrate`", "`qattn calibrate --sampler dwave`"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A calibration of each kind, by its kind."""
    from qattn.problems import synthetic
    from qattn.simulators.calibration.calibrate import calibrate_simulator

    folder = tmp_path_factory.mktemp("calibrations")
    calibration = calibrate_simulator(synthetic(4, 3, seed=1), annealing_times=[2.0, 3.0])
    calibration.save(folder / "simulator.toml")
    with EmulatedQPU(shape=(3, 4)) as qpu:
        write_calibration(qpu, folder / "qpu.toml")
    return {kind: folder / f"{kind}.toml" for kind in ("simulator", "qpu")}


@pytest.mark.usefixtures("as_users_call")
@pytest.mark.parametrize("sampler", ["diabatic", "qutip"])
def test_a_simulator_refuses_the_calibration_of_a_qpu(
    monkeypatch, capsys, tmp_path, files, sampler
):
    arguments = ("train", f"--sampler={sampler}", "--calibration", files["qpu"], *TINY)
    status, _, errors = run(monkeypatch, capsys, *arguments, "--out", tmp_path / "run")
    assert status == 1
    assert "Argument `calibration` must be a calibration of a simulated annealer" in errors
    assert f"{files['qpu']} is one of a QPU" in errors
    assert errors.rstrip().endswith(f"run {FOR_SIMULATORS}.")
    assert len(errors.splitlines()) == 1


def test_a_qpu_refuses_the_calibration_of_a_simulator(files):
    from qattn.hardware.calibration_file import load_device_calibration

    with pytest.raises(
        ValueError, match="Argument `calibration` must be a calibration of a QPU"
    ) as e:
        load_device_calibration(files["simulator"], "A")
    assert f"{files['simulator']} is one of a simulated annealer" in str(e.value)
    assert str(e.value).endswith(f"run {FOR_QPUS}.")
    with pytest.raises(FileNotFoundError, match="no calibration of A"):
        load_device_calibration(files["simulator"].parent, "A")


@pytest.mark.usefixtures("as_users_call")
@pytest.mark.parametrize("sampler", ["diabatic", "dwave"])
def test_a_file_that_cannot_be_written_is_refused_first(monkeypatch, capsys, sampler):
    """Nothing is computed, and no device is asked: there is none here, nor credentials."""

    def computed(*_, **__):
        raise AssertionError("It was computed before the target was checked.")

    monkeypatch.setattr("qattn.problems.synthetic", computed)
    arguments = ("calibrate", "--sampler", sampler, "--problems=2", "--spins=3")
    out = Path("/proc/x.toml")
    status, _, errors = run(monkeypatch, capsys, *arguments, "--out", out)
    assert status == 1
    assert f"Argument `out` must be a file that can be written, but {out} is not" in errors


@pytest.mark.parametrize("name", ["folder", "calibration.png"])
def test_a_folder_or_the_plot_is_no_target(monkeypatch, capsys, tmp_path, name):
    (tmp_path / "folder").mkdir()
    status, _, errors = run(monkeypatch, capsys, "calibrate", "--out", tmp_path / name)
    assert status == 1
    assert "Argument `out` must be a file that is not the plot's" in errors


def test_checking_leaves_nothing_behind(tmp_path):
    from qattn.calibration_file import check_writable

    check_writable(tmp_path / "new" / "c.toml")
    assert list((tmp_path / "new").iterdir()) == []
    file = tmp_path / "c.toml"
    file.write_text("x = 1\n")
    check_writable(file)
    assert file.read_text() == "x = 1\n"


def test_writing_is_atomic(files, tmp_path, monkeypatch):
    from qattn.simulators.calibration.calibration_file import SimulatorCalibration

    calibration = SimulatorCalibration.load(files["simulator"])
    file = tmp_path / "c.toml"
    calibration.save(file)
    before = file.read_bytes()

    def killed(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        calibration.save(file)
    assert file.read_bytes() == before


def test_files_from_before_the_format_had_a_kind_are_read(files, tmp_path):
    import tomllib

    import tomli_w

    from qattn.hardware.calibration_file import DeviceCalibration
    from qattn.simulators.calibration.calibration_file import load_settings

    file = tmp_path / "old.json"
    recommended = {"schedule": "linear", "annealing_time": 3.0, "betas": [7.0, 9.0]}
    file.write_text(json.dumps({"format": 1, "recommended": recommended, "points": []}))
    assert load_settings(file) == AnnealSettings("linear", 3.0, betas=(7.0, 9.0))
    with pytest.raises(ValueError, match="is one of a simulated annealer"):
        DeviceCalibration.load(file)
    values = tomllib.loads(files["qpu"].read_text())
    del values["format"]
    file = tmp_path / "old.toml"
    file.write_text(tomli_w.dumps(values))
    assert DeviceCalibration.load(file) == DeviceCalibration.load(files["qpu"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 3}, "has format 3, and this version of qattn reads up to 2"),
        ({"kind": "toaster"}, "is no calibration"),
        ({"recommended": 7}, "`recommended` must be the index of one of 1 points, but is 7"),
        ({"points": [{}]}, "annealing_time"),
        ({"colour": "red"}, "colour"),
        ({"beta_h": "3.4"}, "`beta_h` must be a positive number, but is '3.4'"),
        ({"beta_J": float("nan")}, "`beta_J` must be a positive number, but is nan"),
        ({"created": "2026-11-24T10:00:00"}, "`created` must have a time zone"),
        ({"created": "yesterday"}, "yesterday"),
    ],
)
@pytest.mark.usefixtures("as_users_call")
def test_broken_files_are_named(files, tmp_path, change, message):
    import tomllib

    from qattn.hardware.calibration_file import DeviceCalibration

    file = tmp_path / "broken.json"
    values = tomllib.loads(files["qpu"].read_text())
    if change.keys() <= values["points"][0].keys():
        values["points"][0] |= change
    else:
        values |= change
    file.write_text(json.dumps(values))
    with pytest.raises(ValueError, match="Argument `calibration` must be") as error:
        DeviceCalibration.load(file)
    for part in (message, str(file), FOR_QPUS):
        assert part in str(error.value)
