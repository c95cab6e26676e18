"""The examples in docstrings run, and print what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {"qattn": ROOT / "qattn", "qattn.hardware": ROOT / "hardware"}
PACKAGES["qattn.simulators"] = ROOT / "simulators"


def modules_with_examples():
    """Names of the modules whose source has a prompt; the links within qattn are not followed."""
    names = set()
    for package, folder in PACKAGES.items():
        for file in folder.rglob("*.py"):
            parts = file.relative_to(folder).with_suffix("").parts
            if package == "qattn" and parts[0] in ("hardware", "simulators"):
                continue
            if ">>> " in file.read_text(encoding="utf-8"):
                names.add(".".join([package, *(part for part in parts if part != "__init__")]))
    return sorted(names)


@pytest.mark.parametrize("name", modules_with_examples())
@pytest.mark.usefixtures("nobodys_machine", "as_users_call")
def test_examples_of(name):
    module = importlib.import_module(name)
    examples = [test for test in doctest.DocTestFinder().find(module, name) if test.examples]
    assert examples, "no prompt of this module is in a docstring"
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    report = []
    for test in examples:
        runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)


def test_wrong_output_is_a_failure():
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert doctest.DocTestRunner(verbose=False).run(wrong, out=lambda text: None).failed == 1
