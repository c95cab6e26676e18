"""`qattn compare` with an emulated QPU, and the same report from its journal."""

import json

import pytest
from typer.testing import CliRunner

from qattn.cli.app import app

pytestmark = pytest.mark.usefixtures("packings_are_kept")

PROBLEMS = ["--problems", "synthetic:spins=4,problems=20", "--num-reads", "200"]


def qattn(*arguments):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def report(folder):
    return json.loads((folder / "report.json").read_text())


@pytest.mark.slow
def test_a_journal_gives_the_same_report_offline(nobodys_machine):
    """To the digit, sweeps over strengths included; and both say that it was emulated."""
    sweeps = ["--strengths", "0.5,1", "--refine-sweeps", "1"]
    qattn(
        *("compare", "--samplers", "exact,neal,dwave", "--emulate-qpu", "--out", "live"),
        *PROBLEMS,
        *sweeps,
    )
    live = report(nobodys_machine / "live")
    text = json.dumps(live["comparison"])
    assert text.count('"dwave') == text.count('"dwave (EMULATED)') > 2
    assert "NaN" not in text
    html = (nobodys_machine / "live" / "report.html").read_text()
    assert "EMULATED" in html
    assert "Emulated_zephyr_6_4" in html
    qattn(
        *("compare", "--samplers", "exact,neal,replay", "--journal", "live", "--out", "again"),
        *PROBLEMS,
        *sweeps,
    )
    again = report(nobodys_machine / "again")
    assert again["comparison"] == live["comparison"]
    assert "EMULATED" in (nobodys_machine / "again" / "report.html").read_text()


def test_the_emulator_is_calibrated_and_its_token_kept_nowhere(nobodys_machine):
    qattn("compare", "--samplers", "dwave", "--emulate-qpu", "--out", "live", *PROBLEMS)
    assert (nobodys_machine / "live" / "calibration-ghost-5ns.toml").is_file()
    files = [path for path in (nobodys_machine / "live").rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        assert b"EMU-" not in path.read_bytes(), path  # what emulators' tokens begin with
