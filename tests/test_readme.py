"""What the README says runs."""

import re
import shlex
from pathlib import Path

import pytest

from qattn.cli.train import train

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_example_runs():
    (example,) = blocks("python")
    assert len(example.strip().splitlines()) <= 14
    names = {}
    exec(example, names)
    assert names["out"].shape == (8, 12, 64)


def test_ci_runs_the_test_command():
    (command,) = [b.strip() for b in blocks("sh") if "pytest" in b]
    quiet = command.replace("pip install", "pip install -q")
    assert quiet in (ROOT / ".ci" / "run").read_text()


@pytest.mark.usefixtures("as_users_call")
def test_training_commands_have_flags_that_exist():
    lines = [line for b in blocks("sh") for line in b.splitlines() if "qattn train" in line]
    lines += re.findall(r"`(qattn train [^`]*)`", README)
    assert lines
    known = set(train.__signature__.parameters)
    for line in lines:
        words = shlex.split(line.split("qattn train")[1], comments=True)
        flags = {w.split("=")[0][2:].replace("-", "_") for w in words if w.startswith("--")}
        assert {f.removeprefix("no_") for f in flags} <= known, line


def test_pictures_and_links_exist():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).is_file(), target
