"""Ctrl-C at any moment, and commands that are never silent."""

import io
import re
import subprocess
import sys
import time

import pytest
from _support.command_line import run
from rich.console import Console

pytestmark = pytest.mark.usefixtures("as_users_call")

INTERRUPTED_AT_IMPORT = """
import os, signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
sys.argv = ["qattn", "train"]
from qattn.cli import main
main()
"""


@pytest.mark.parametrize("name", ["rich.logging", "torch", "numpy.exceptions", "qattn.training"])
def test_during_the_imports(nobodys_machine, name):
    command = [sys.executable, "-c", INTERRUPTED_AT_IMPORT.format(name=name)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 130
    assert found.stderr == "Stopped by Ctrl-C before anything had begun.\n"
    assert not list(nobodys_machine.iterdir())


@pytest.mark.parametrize("command", ["calibrate", "compare"])
def test_a_command_ends_with_a_word(monkeypatch, capsys, tmp_path, command):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("qattn.problems.synthetic", interrupted)
    monkeypatch.setattr("qattn.problems.named", interrupted)
    out = tmp_path / "out.toml"
    status, _, errors = run(monkeypatch, capsys, command, "--out", out)
    assert (status, errors) == (130, "Stopped by Ctrl-C.\n")
    assert not out.exists()


def test_calibrate_says_where_it_is(monkeypatch, capsys, tmp_path):
    arguments = ["--problems=3", "--spins=3", "--annealing-time=1", "--annealing-time=2"]
    out = tmp_path / "c.toml"
    status, _, errors = run(monkeypatch, capsys, "calibrate", *arguments, "--out", out)
    assert status == 0
    begun = re.findall(r"^(\d) of 4, \d+ s: linear, (\d) ns, (\w+)$", errors, re.M)
    assert list(dict.fromkeys(begun)) == [
        *(("1", "1", "direct"), ("2", "1", "ghost"), ("3", "2", "direct"), ("4", "2", "ghost")),
    ]


def lines_of(capsys, number):
    """So many lines on standard error, waited for."""
    deadline = time.monotonic() + 60
    lines = []
    while len(lines) < number:
        assert time.monotonic() < deadline, lines
        time.sleep(0.02)
        lines += capsys.readouterr().err.splitlines()
    return lines


def test_a_long_stage_is_not_silent(monkeypatch, capsys):
    from qattn.cli.terminal import progress as _progress

    assert _progress.HEARTBEAT < 2
    monkeypatch.setattr(_progress, "HEARTBEAT", 0.05)
    start = time.monotonic()
    with _progress.Stages(2, spent=lambda: "QPU 1 s") as stages:
        stages.begin("long")
        lines = lines_of(capsys, 3)
    beats = (time.monotonic() - start) / 0.05
    lines += capsys.readouterr().err.splitlines()
    assert all(re.fullmatch(r"1 of 2, \d+ s: long, QPU 1 s", line) for line in lines)
    assert 3 <= len(lines) <= beats + 1
    with _progress.Stages(1, quiet=True) as stages:
        stages.begin("long")
    assert capsys.readouterr().err == ""


def test_stages_without_a_number_are_lines_now_and_then(monkeypatch, capsys):
    from qattn.cli.terminal import progress as _progress

    with _progress.Stages() as stages:
        stages.begin("what ends at once says nothing")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(_progress, "HEARTBEAT", 0.05)
    start = time.monotonic()
    with _progress.Stages() as stages:
        for step in range(1000):
            stages.begin(f"[step] {step}")
        lines = capsys.readouterr().err.splitlines() + lines_of(capsys, 3)
    beats = (time.monotonic() - start) / 0.05
    lines += capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"\d+ s: \[step\] 999", lines[-1])
    assert 3 <= len(lines) <= beats + 1


def test_a_long_text_is_cut_to_the_width():
    from qattn.cli.terminal.progress import Stages

    stages = Stages()
    screen = io.StringIO()
    stages.console = Console(file=screen, width=80, force_terminal=True, color_system=None)
    stages._bar.live.console = stages.console
    stages._bar.disable = False
    with stages:
        stages.begin("[long] " * 30)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    lines = [line for line in re.split(r"[\r\n]", shown) if "[long]" in line]
    assert lines
    assert max(map(len, lines)) <= 80


def test_the_bar_fits_80_columns():
    from qattn.cli.terminal.progress import Stages

    stages = Stages(12)
    screen = io.StringIO()
    stages.console = Console(file=screen, width=80, force_terminal=True, color_system=None)
    stages._bar.live.console = stages.console
    stages._bar.disable = False
    with stages:
        stages.begin("14 ns, ancilla, chains -1.25")
        stages.spent = lambda: "QPU 12.3 ms"
        stages.begin("20 ns, ancilla, chains -1.25")
    last = [line for line in re.split(r"[\r\n]", screen.getvalue()) if "20 ns" in line][-1]
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", last)
    assert "1/12" in shown
    assert "20 ns, ancilla, chains -1.25, QPU 12.3 ms" in shown
    assert len(shown.rstrip()) <= 80
