"""Helps, completion, and what can be read by programs."""

import json
import os
import subprocess
import sys

import pytest
from _support.command_line import run
from rich.console import Console

from qattn.backends import available_backends
from qattn.cli.app import COMMANDS, load_command

pytestmark = pytest.mark.usefixtures("as_users_call")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_groups_and_a_short_flag(monkeypatch, capsys, name):
    from qattn.cli.terminal.groups import GROUPS

    monkeypatch.setenv("COLUMNS", "80")
    status, short, _ = run(monkeypatch, capsys, *name.split(), "-h")
    assert status == 0
    assert short == run(monkeypatch, capsys, *name.split(), "--help")[1]
    titles = [line[:-1] for line in short.splitlines() if line.endswith(":") and line[0] != " "]
    assert [title for title in titles if title in GROUPS[name]] == list(GROUPS[name])
    ungrouped = short.split("\nOptions:\n")[1]
    assert [line.split()[0] for line in ungrouped.splitlines()] == ["-h,"], ungrouped
    assert "list[" not in short
    assert max(map(len, short.splitlines())) <= 80


def test_every_option_is_in_the_help_once(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    printed = run(monkeypatch, capsys, "train", "--help")[1]
    for param in load_command("train").params:
        starts = [line.split()[0] for line in printed.splitlines() if line.strip()]
        assert starts.count(param.opts[0]) == 1, param.opts


def test_summaries_are_not_cut_off(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    printed = " ".join(run(monkeypatch, capsys, "--help")[1].split())
    assert all(summary in printed for summary in COMMANDS.values())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("qattn cal", "calibrate"),
        ("qattn train --eval-s", "--eval-sampler"),
        ("qattn exp", "experiment"),
        ("qattn experiment st", "status"),
        ("qattn experiment run --sched", "--scheduler"),
    ],
)
def test_completion(words, expected):
    environment = os.environ | {
        "_QATTN_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    program = "import sys; sys.argv[0] = 'qattn'; from qattn.cli import main; main()"
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert found.stdout.split() == [expected], found.stderr


def test_backends_as_a_table_and_as_json(monkeypatch, capsys, nobodys_machine):
    status, printed, _ = run(monkeypatch, capsys, "backends", "--json")
    assert status == 0
    found = {entry["name"]: entry for entry in json.loads(printed)}
    assert found.keys() == {info.name for info in available_backends()}
    assert found["exact"]["available"]
    assert found["exact"]["missing"] is None
    assert not found["dwave"]["available"]
    assert "API token" in found["dwave"]["missing"]
    assert "what is missing" in run(monkeypatch, capsys, "backends")[1]
    monkeypatch.setenv("DWAVE_API_TOKEN", "a-token-for-nobody")
    printed = run(monkeypatch, capsys, "backends")[1]
    assert "what is missing" not in printed
    assert "a-token" not in printed


def test_doctor_as_json(monkeypatch, capsys, nobodys_machine):
    status, printed, _ = run(monkeypatch, capsys, "doctor", "--json")
    assert status == 1
    checks = json.loads(printed)["checks"]
    assert [check["status"] for check in checks[:3]] == ["ok", "ok", "failed"]
    assert {check["status"] for check in checks[3:]} == {"skipped"}
    assert all(check.keys() == {"name", "status", "detail", "hint"} for check in checks)


def test_doctor_hangs_its_lines_on_a_terminal(monkeypatch):
    from qattn.cli import doctor
    from qattn.hardware.doctor import Check

    words = [f"word{number}" for number in range(40)]
    for terminal in (True, False):
        console = Console(width=80, force_terminal=terminal, color_system=None, record=True)
        monkeypatch.setattr(doctor, "console", console)
        console.soft_wrap = not terminal
        doctor._show(Check("packing", "ok", " ".join(words), "do that"))
        lines = console.export_text().splitlines()
        assert lines[0].startswith("ok      packing        word0 ")
        if terminal:
            assert len(lines) > 4
            assert all(line.startswith(" " * 23) for line in lines[1:])
            assert {word for line in lines for word in line.split()} >= set(words)
            assert max(map(len, lines)) <= 80
        else:
            assert len(lines) == 2
        assert lines[-1].strip() == "-> do that"
