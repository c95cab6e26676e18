"""Compiled inner loops: which library is taken, and what happens without one."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from qattn import kernels

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "qattn" / "kernels" / "src"
SEE = "from qattn import kernels; print(kernels.level(), kernels.in_use(), sep=': ')"
loops = pytest.mark.skipif(kernels.level() is None, reason="no compiled loops here")


def in_process(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True
    )


def test_off_by_the_environment():
    assert in_process(SEE, QATTN_KERNELS="off").stdout.startswith("None: none, switched off")


@loops
@pytest.mark.parametrize("wanted", kernels.LEVELS)
def test_a_level_by_the_environment(wanted):
    """The best one instead where the machine does not have it."""
    found = in_process(SEE, QATTN_KERNELS=wanted).stdout.split(":")[0]
    assert found == wanted or kernels.LEVELS.index(found) > kernels.LEVELS.index(wanted)


def test_no_such_level():
    result = in_process(SEE, QATTN_KERNELS="avx9")
    assert "must be off or one of avx512, avx2, baseline" in result.stderr


@loops
def test_disabled_is_undone_by_an_error_too():
    def failing():
        with kernels.disabled():
            assert kernels.level() is None
            assert not kernels.usable(torch.zeros(1))
            assert "switched off" in kernels.in_use()
            raise RuntimeError("mine")

    before = kernels.level()
    with pytest.raises(RuntimeError, match="mine"):
        failing()
    assert kernels.level() == before == kernels.in_use()


@loops
def test_usable_for_float32_on_the_cpu_alone():
    assert kernels.usable(torch.zeros(1), torch.zeros(2))
    assert not kernels.usable(torch.zeros(1), torch.zeros(1, dtype=torch.float64))
    assert not kernels.usable(torch.zeros(1, device="meta"))


def test_without_a_library(monkeypatch):
    monkeypatch.setattr(kernels, "_library", lambda: None)
    monkeypatch.delenv("QATTN_KERNELS", raising=False)
    assert kernels.level() is None
    assert not kernels.usable(torch.zeros(1))
    assert "C++ compiler" in kernels.in_use()


@pytest.mark.skipif(not SOURCES.exists(), reason="needs the clone")
def test_every_header_is_declared_and_so_part_of_a_source_distribution():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    headers = {str(path.relative_to(ROOT)) for path in SOURCES.rglob("*.hpp")}
    modules = settings["tool"]["setuptools"]["ext-modules"]
    assert {module["name"] for module in modules} == {
        f"qattn.kernels._{level}" for level in kernels.LEVELS
    }
    for module in modules:
        assert set(module["depends"]) == headers
        assert module["optional"]
    included = re.findall(r'#include "(.*)"', (SOURCES / "native.cpp").read_text())
    assert all((SOURCES / name).exists() for name in included)
