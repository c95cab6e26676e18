"""What the pages of the documentation say runs."""

import re
import shlex
import subprocess
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import pytest

import qattn
from qattn.cli.app import COMMANDS, load_command
from qattn.training.tasks import TASKS, TOKENIZERS

DOCS = Path(__file__).parent.parent / "docs"
PAGES = {page.stem: page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.md"))}


def blocks(text, language):
    fences = re.findall(rf"^( *)```{language}\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)
    return [code for _, code in fences]


@pytest.mark.parametrize("page", [name for name in PAGES if blocks(PAGES[name], "python")])
@pytest.mark.filterwarnings("default::qattn.simulators.quantum_annealing.DivergenceWarning")
@pytest.mark.usefixtures("nobodys_machine", "as_users_call")
@patch.dict(TASKS)  # what a page adds is not there for other tests
@patch.dict(TOKENIZERS)
def test_examples_run(page):
    names = {"__name__": "example"}
    for code in blocks(PAGES[page], "python"):
        exec(compile(code, f"{page}.md", "exec"), names)
    if page == "adding_a_backend":
        suite = names["TestIndependentSpins"]()
        for name in [name for name in dir(suite) if name.startswith("test_")]:
            getattr(suite, name)()


def commands():
    """Each ``qattn …`` line of the pages, as words, also where torchrun starts it."""
    for name, text in PAGES.items():
        for code in blocks(text, "sh") + re.findall(r"`(qattn [^`]+)`", text):
            for line in code.splitlines():
                starter, found, words = line.partition("qattn ")
                if found and (not starter.strip() or starter.startswith("torchrun ")):
                    yield pytest.param(shlex.split(words, comments=True), id=f"{name}: {line}")


@pytest.mark.parametrize("words", list(commands()))
def test_commands_and_flags_exist(words):
    name = words[0] if words[0] in COMMANDS else " ".join(words[:2])
    assert name in COMMANDS
    params = load_command(name).params
    flags = {flag for p in params for flag in (*p.opts, *p.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= flags | {"--help"}


def test_pictures_exist_or_are_made():
    made = [words for words in blocks(PAGES["gallery"], "sh") for words in words.splitlines()]
    outputs = {Path(words.split(" --out ")[1]).stem for words in made}
    assert len(outputs) == len(made)
    for text in PAGES.values():
        for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text):
            if target.startswith("_gallery/"):
                assert Path(target).parts[1].partition(".")[0] in outputs, target
            elif not target.startswith("_results/"):  # drawn by docs/conf.py
                assert (DOCS / target).is_file(), target


def test_page_titles_differ():
    pages = [*DOCS.glob("*.md"), *DOCS.glob("api/*.md")]
    titles = [page.read_text(encoding="utf-8").partition("\n")[0] for page in pages]
    assert len(set(titles)) == len(titles)


def test_every_option_of_every_command_is_in_the_reference(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    text = import_module("command_reference").commands_in_markdown()
    sections = dict(zip(COMMANDS, text.split("## `qattn ")[1:], strict=True))
    for name, section in sections.items():
        for param in load_command(name).params:
            found = re.findall(rf"^`{re.escape(param.opts[0])}[ ,.`]", section, flags=re.MULTILINE)
            assert len(found) == 1, param.opts
    assert "{{ commands }}" in PAGES["commands"]


@pytest.mark.skipif(not (DOCS.parent / ".git").exists(), reason="needs git")
def test_what_the_commands_write_is_ignored():
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    written = re.findall(r"--(?:out|account|credentials|journal) ([\w./-]+)", readme)
    for text in PAGES.values():
        written += re.findall(r"--(?:out|account|credentials|journal) ([\w./-]+)", text)
    names = {Path(name).parts[0] for name in written if name not in ("DIR", "FILE")}
    names |= {f"{Path(name).stem}-journal" for name in written if name.endswith(".toml")}
    names |= {f"{Path(name).stem}.png" for name in written if name.endswith(".toml")}
    names -= set(re.findall(r"--out ([\w-]+)", PAGES["gallery"]))  # in its own folder
    assert {"credentials.toml", "qpu.toml", "qpu-journal", "account.json", "runs"} <= names
    paths = [f"{name}/x" if "." not in name else name for name in sorted(names)]
    command = ["git", "check-ignore", *paths]
    found = subprocess.run(command, cwd=DOCS.parent, capture_output=True, text=True, check=False)
    assert found.stdout.split() == paths


def test_citation():
    text = (DOCS.parent / "CITATION.cff").read_text(encoding="utf-8")
    top = dict(re.findall(r"^([a-z-]+): *(.*)$", text, flags=re.MULTILINE))
    assert {"cff-version", "message", "title", "authors"} <= top.keys()  # what 1.2.0 requires
    assert top["cff-version"] == "1.2.0"
    assert top["type"] == "software"
    assert top["version"] == qattn.__version__
    (article,) = re.findall(r"^    url: (.*)$", text, flags=re.MULTILINE)
    assert article in PAGES["index"]
