"""A training through faults at random: a short form of the benchmark of that name."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "qpu_fault_storm.py"


@pytest.mark.slow
def test_nothing_is_lost_or_paid_for_twice():
    command = [sys.executable, SCRIPT, "--rounds", "10", "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "10 rounds in" in done.stdout
