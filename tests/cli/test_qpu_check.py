"""`qattn qpu-check`: every stage on the emulator, and an archive without secrets."""

import json
import zipfile

import pytest
from _support.command_line import run

from qattn.cli.qpu_check import QPUCheck
from qattn.hardware.emulator import EmulatedQPU

pytestmark = pytest.mark.usefixtures("packings_are_kept", "nobodys_machine")


def contents(archive):
    """Files of an archive by their names within the check's folder."""
    with zipfile.ZipFile(archive) as file:
        return {name.partition("/")[2]: file.read(name) for name in file.namelist()}


def test_all_stages_on_the_emulator(monkeypatch, capsys, tmp_path):
    tokens = []
    original = EmulatedQPU.__init__

    def remembered(self, *args, **kwargs):
        original(self, *args, **kwargs)
        tokens.append(self.token)

    monkeypatch.setattr(EmulatedQPU, "__init__", remembered)
    out = tmp_path / "check"
    status, printed, error = run(monkeypatch, capsys, "qpu-check", "--emulate-qpu", "--out", out)
    assert status == 0, (printed, error)
    files = contents(tmp_path / "check.zip")
    assert {"check.json", "doctor.json", "solver.json", "calibration.toml"} <= files.keys()
    assert {"comparison/report.html", "training/summary.json"} <= files.keys()
    about = json.loads(files["check.json"])
    assert [stage["stage"] for stage in about["stages"]] == [
        *("doctor", "calibrate", "compare", "train")
    ]
    assert {stage["status"] for stage in about["stages"]} == {"ok"}
    # Every stage but the doctor submits, and all of them stay far below ten seconds.
    spent = [stage["qpu_seconds"] for stage in about["stages"]]
    assert spent[0] == 0
    assert all(seconds > 0 for seconds in spent[1:])
    assert sum(spent) < 10
    # The token is in no file of the archive, and on no screen.
    (token,) = tokens
    assert not [name for name, content in files.items() if token.encode() in content]
    assert token not in printed


def test_a_budget_too_small_ends_in_an_archive(monkeypatch, capsys, tmp_path):
    arguments = ("qpu-check", "--emulate-qpu", "--qpu-budget", "1ms", "--out", tmp_path / "check")
    status, printed, _ = run(monkeypatch, capsys, *arguments)
    assert status == 1
    assert "BudgetExceeded" in printed
    about = json.loads(contents(tmp_path / "check.zip")["check.json"])
    assert [stage["status"] for stage in about["stages"]] == ["ok", "failed"]
    assert "budget" in about["stages"][1]["result"]


def test_a_file_that_holds_the_token_is_left_out(tmp_path):
    folder = tmp_path / "check"
    folder.mkdir()
    (folder / "harmless.txt").write_text("nothing")
    (folder / "notes.txt").write_text("my token is ABC-123-secret")
    archive, left_out = QPUCheck(folder, {}, 10.0, 0).archive("ABC-123-secret")
    assert left_out == ["check/notes.txt"]
    assert contents(archive).keys() == {"check.json", "harmless.txt"}


def test_an_existing_folder_is_refused(monkeypatch, capsys, tmp_path):
    status, _, error = run(monkeypatch, capsys, "qpu-check", "--emulate-qpu", "--out", tmp_path)
    assert status == 1
    assert "--out" in error
