"""Compiled and exported layers: the tests of `_support/compiling.py`, in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "chosen",
    [
        "not slow",
        pytest.param("slow", marks=pytest.mark.slow),  # inductor
    ],
)
def test_compiled_and_exported_layers(chosen):
    arguments = ["-o", "addopts=", "-q", "-m", chosen, "tests/_support/compiling.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-10_000:]
