"""An editable clone is imported from any folder, whatever the clone is called."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ATTEND = """
import qattn, torch
layer = qattn.BoltzmannAttention(8, 2, 9, couplings="banded", width=2)
print(tuple(layer(torch.ones(1, 9, 8)).shape))
"""
SEE = "import qattn, qattn.hardware, qattn.simulators; print(qattn.BoltzmannAttention.__name__)"


def run(*command, cwd, **variables):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | variables
    result = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.strip()


def copy_of_tracked_files(clone):
    for name in run("git", "ls-files", "-z", cwd=ROOT).strip("\0").split("\0"):
        if os.path.lexists(ROOT / name):
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name, follow_symlinks=False)


def editable_environment(clone, folder, **variables):
    """A fresh environment's Python: this one's dependencies, and `pip install -e` of the clone."""
    venv.create(folder, symlinks=True, with_pip=False)
    python = folder / "bin" / "python"
    packages = Path(run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=folder))
    dependencies = [path for path in sys.path if Path(path).name.endswith("-packages")]
    (packages / "zz_dependencies.pth").write_text("\n".join(dependencies) + "\n")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--ignore-installed"]
    run(*pip, *offline, "--editable", clone, cwd=folder, **variables)
    return python


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the list of tracked files")
@pytest.mark.parametrize(("name", "compiler"), [("qattn", True), ("hardware", False)])
def test_an_editable_clone_is_imported_from_any_folder(name, compiler, tmp_path):
    clone = tmp_path / "projects" / name
    copy_of_tracked_files(clone)
    none = {} if compiler else {"CC": "/bin/false", "CXX": "/bin/false"}
    python = editable_environment(clone, tmp_path / "environment", **none)
    built = run(python, "-c", "from qattn import kernels; print(kernels.level())", cwd=tmp_path)
    assert compiler or built == "None"
    assert run(python, "-c", ATTEND, cwd=tmp_path) == "(1, 9, 8)"
    (clone.parent / "script.py").write_text(SEE)
    for folder in (clone.parent, clone, tmp_path):
        assert run(python, "-c", SEE, cwd=folder) == "BoltzmannAttention", folder
    assert run(python, "script.py", cwd=clone.parent) == "BoltzmannAttention"
    assert "train" in run(python.parent / "qattn", "--help", cwd=clone.parent)
    # Nothing else of the clone is importable: a project's own `hardware` folder stays its own.
    find = "from importlib.util import find_spec as f; print(*map(f, ['hardware', 'tests']))"
    assert run(python, "-c", find, cwd=tmp_path) == "None None"
