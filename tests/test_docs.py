"""What the pages of the documentation say runs."""

import re
import shlex
from pathlib import Path

import pytest

from qattn.cli.app import COMMANDS, load_command

DOCS = Path(__file__).parent.parent / "docs"
PAGES = {page.stem: page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.md"))}


def blocks(text, language):
    fences = re.findall(rf"^( *)```{language}\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)
    return [code for _, code in fences]


@pytest.mark.parametrize("page", [name for name in PAGES if blocks(PAGES[name], "python")])
@pytest.mark.filterwarnings("default::qattn.simulators.quantum_annealing.DivergenceWarning")
@pytest.mark.usefixtures("nobodys_machine", "as_users_call")
def test_examples_run(page):
    names = {"__name__": "example"}
    for code in blocks(PAGES[page], "python"):
        exec(compile(code, f"{page}.md", "exec"), names)
    if page == "adding_a_backend":
        suite = names["TestIndependentSpins"]()
        for name in [name for name in dir(suite) if name.startswith("test_")]:
            getattr(suite, name)()


def commands():
    """Each ``qattn …`` line of the pages, as words."""
    for name, text in PAGES.items():
        for code in blocks(text, "sh") + re.findall(r"`(qattn [^`]+)`", text):
            for line in code.splitlines():
                if line.strip().startswith("qattn "):
                    yield pytest.param(shlex.split(line, comments=True)[1:], id=f"{name}: {line}")


@pytest.mark.parametrize("words", list(commands()))
def test_commands_and_flags_exist(words):
    assert words[0] in COMMANDS
    params = load_command(words[0]).params
    flags = {flag for p in params for flag in (*p.opts, *p.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= flags | {"--help"}


def test_pictures_exist():
    for text in PAGES.values():
        for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text):
            assert (DOCS / target).is_file(), target
