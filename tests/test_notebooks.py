"""The notebooks run from a fresh clone, and are committed without outputs."""

import json
import os
import re
import resource
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

CPU_SECONDS = 120
"""Processor time that a notebook may take, the start of its kernel included: what a run takes on a
machine with nothing else to do, whatever this one has to do."""

WALL_SECONDS = 600
"""Time after which a notebook counts as stuck."""

every_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def cells(notebook, kind):
    found = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == kind]


def test_there_are_eight():
    assert [path.name[:2] for path in NOTEBOOKS] == [f"{number}_" for number in range(1, 9)]


@every_notebook
def test_is_committed_without_outputs(notebook):
    for cell in cells(notebook, "code"):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


@every_notebook
def test_links_lead_somewhere(notebook):
    text = "".join("".join(cell["source"]) for cell in cells(notebook, "markdown"))
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (FOLDER / target).is_file(), target


@pytest.mark.slow
@every_notebook
def test_runs_offline_in_two_minutes(notebook, tmp_path):
    """In a home of its own, so that nobody's credentials or caches take part.

    The folder of QATTN_EXECUTED_NOTEBOOKS, if that is set, keeps the executed copy, from which the
    documentation takes its pictures.
    """
    jupyter_execute = shutil.which("jupyter-execute", path=sysconfig.get_path("scripts"))
    assert jupyter_execute is not None, "jupyter-execute is missing: pip install -e '.[dev]'"
    copy = shutil.copy(notebook, tmp_path)
    nobodys = {name: v for name, v in os.environ.items() if not name.startswith(("DWAVE_", "XDG_"))}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run(
        [jupyter_execute, "--inplace", "--kernel_name=python3", str(copy)],
        env=nobodys | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=WALL_SECONDS,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert run.returncode == 0, run.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < CPU_SECONDS
    outputs = [output for cell in cells(Path(copy), "code") for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3
    if folder := os.environ.get("QATTN_EXECUTED_NOTEBOOKS"):
        shutil.copy(copy, folder)
