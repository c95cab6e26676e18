"""Compiled inner loops: which library is taken, and what happens without one."""

import hashlib
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
    monkeypatch.setattr(kernels, "_library", lambda: "not built for want of a C++ compiler")
    monkeypatch.delenv("QATTN_KERNELS", raising=False)
    assert kernels.level() is None
    assert not kernels.usable(torch.zeros(1))
    assert "C++ compiler" in kernels.in_use()


@loops
@pytest.mark.parametrize("before", [0, kernels.INTERFACE - 1, kernels.INTERFACE + 1])
def test_a_library_of_another_version_is_not_used(monkeypatch, before):
    monkeypatch.setattr(kernels, "_interface", lambda library: before)
    kernels._library.cache_clear()
    try:
        with pytest.warns(UserWarning, match="`pip install -e .` builds them anew"):
            assert kernels.level() is None
        assert "built for an earlier version" in kernels.in_use()
        assert not kernels.usable(torch.zeros(1))
    finally:
        kernels._library.cache_clear()


@pytest.mark.skipif(not SOURCES.exists(), reason="needs the clone")
def test_what_is_called_has_a_number():
    """With other functions or arguments, INTERFACE must be another too, here and in native.cpp."""
    code = "".join(path.read_text() for path in sorted(SOURCES.rglob("*.[hc]pp")))
    declared = re.findall(r"(?:void|int64_t) qattn_\w+\([^)]*\)", code)
    assert "int64_t qattn_interface()" in declared
    text = re.sub(r"\s+", " ", "; ".join(sorted(declared)))
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    assert (kernels.INTERFACE, digest) == (1, "d20e4c0bef56")


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
