"""The command line in this process."""

import sys

import pytest

from qattn import cli


def run(monkeypatch, capsys, *arguments):
    """Exit status, standard output and error of `qattn ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["qattn", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    captured = capsys.readouterr()
    return stop.value.code or 0, captured.out, captured.err
