"""Fixtures for all tests, which run side by side in as many processes as there are cores."""

import logging
import os

import jaxtyping
import pytest
import torch
from _support.browser import chromium
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start
os.environ["QATTN_REFERENCES"] = "off"  # every run of the tests computes for itself

# Examples of hypothesis are the same in every run, and slow machines are no failures. Others, to
# look for defects: pytest --hypothesis-profile=others --hypothesis-seed=1
options = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "database": None}
settings.register_profile("same", derandomize=True, **options)
settings.register_profile("others", **options)
settings.load_profile("same")


@pytest.fixture
def as_users_call():
    """Without the shape checks that only tests have: what a user's wrong call meets."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def nobodys_machine(tmp_path, monkeypatch):
    """An empty working folder on a machine without anyone's D-Wave configuration or caches."""
    for variable in list(os.environ):
        if variable.startswith("DWAVE_"):
            monkeypatch.delenv(variable)
    for variable in ("HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    factory = logging.getLogRecordFactory()
    yield folder
    logging.setLogRecordFactory(factory)


@pytest.fixture
def packings_are_kept(nobodys_machine, tmp_path_factory, monkeypatch):
    """As nobodys_machine, but packings that other tests made are found in the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    return nobodys_machine


@pytest.fixture(scope="module")
def browser():
    """A browser without a window."""
    with chromium() as started:
        yield started
