"""Sphinx's configuration: `sphinx-build -W --keep-going -b html docs docs/_build/html`."""

import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst.states import Inliner
from sphinx.util.nodes import make_refnode

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from command_reference import commands_in_markdown  # noqa: E402
from results_page import draw_all, read_all  # noqa: E402

import qattn  # noqa: E402
from qattn import kernels  # noqa: E402
from qattn._version import __version__  # noqa: E402
from qattn.experiments.report import content  # noqa: E402

project = "qattn"
author = copyright = "The qattn authors"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx-mathjax-offline",  # MathJax in the site itself, so that it reads without a network
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "_gallery", "_results"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # the changelog starts its pages at the second level

# Notebooks that have no outputs are executed; `tests/test_notebooks.py` keeps those that it has
# executed in the folder QATTN_EXECUTED_NOTEBOOKS, if that is set.
nb_execution_mode = "auto"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_in_temp = True

napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # the signature has them

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88

# What docstrings refer to must exist; only other projects' names are not looked up, because
# their inventories would have to be fetched.
nitpicky = True
nitpick_ignore_regex = [
    (
        r"py:.*",
        r"(torch|transformers|numpy|dimod|dwave|minorminer|networkx|matplotlib|qutip|jaxtyping)\..*",
    ),
    (r"py:.*", r"Tensor|ndarray|Sampler|Figure|qattn\.hardware\.program\.Number"),
    (r"py:.*", r"(.*\| )?(dict|tuple)\[(str|int)"),
    (r"py:.*", r"(abc|collections|contextlib|dataclasses|datetime|pathlib|typing)\..*"),
]

html_theme = "furo"
html_title = f"qattn {release}"
html_show_sphinx = False
html_copy_source = False
html_static_path: list[str] = []
mathjax3_config = {"chtml": {"scale": 1.0}}
copybutton_prompt_text = "$ "


def setup(app: Any) -> None:
    """What the pages show of the program, and what docstrings need on the way to a page."""
    for make in (fetch_notebooks, make_gallery, draw_results):
        app.connect("config-inited", lambda app, config, make=make: make())
    app.connect("source-read", fill_in_commands)
    app.connect("missing-reference", resolve_short_name)
    app.connect("autodoc-process-docstring", keep_first_line, priority=400)  # before napoleon
    Inliner.dispatch["|"] = bar


def fetch_notebooks() -> None:
    """Copies of the notebooks where Sphinx finds them, with outputs if they were executed."""
    executed = Path(os.environ.get("QATTN_EXECUTED_NOTEBOOKS", "nowhere"))
    target = ROOT / "docs" / "notebooks"
    target.mkdir(exist_ok=True)
    for file in (ROOT / "notebooks").iterdir():
        if file.suffix in (".ipynb", ".md"):
            source = executed / file.name
            shutil.copy(source if source.is_file() else file, target / file.name)


def make_gallery() -> None:
    """Run the commands of the gallery, in the folder of its pictures, unless it is there."""
    pictures = ROOT / "docs" / "_gallery"
    if pictures.exists():
        return
    pictures.mkdir()
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    for command in re.findall(r"^qattn .*", page, re.MULTILINE):
        words = [sys.executable, "-m", *shlex.split(command)]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(words, cwd=pictures, env=environment, capture_output=True, text=True)
        if done.returncode:
            shutil.rmtree(pictures)
            raise RuntimeError(f"{command}: {done.stderr}")


def draw_results() -> None:
    """The figures of the page of results, of its files as they are now."""
    reports = [content(results) for results in read_all(ROOT / "docs" / "results")]
    draw_all(reports, ROOT / "docs" / "_results")


def fill_in_commands(app: Any, docname: str, source: list[str]) -> None:
    """The page of the commands is written by the commands."""
    if docname == "commands":
        source[0] = source[0].replace("{{ commands }}", commands_in_markdown())


def resolve_short_name(app: Any, env: Any, node: Any, contnode: nodes.Element) -> Any:
    """Docstrings name things as their modules do, the pages as the packages that list them.

    A name leads to the only entry of the pages whose full name ends like that, or to the entry of
    the same object. What exists but is internal stays plain text; anything else is a broken link.
    """
    if node.get("refdomain") != "py":
        return None
    entries = env.get_domain("py").objects
    ending = re.compile(rf"(.*\.)?{re.escape(node['reftarget'].lstrip('.'))}")
    matches = [name for name in entries if ending.fullmatch(name)]
    if len(matches) != 1:
        meant = {name: value for name, value in everything().items() if ending.fullmatch(name)}
        if not meant:
            return None
        values = [value for value in meant.values() if value is not None]
        matches = [n for n in entries if any(everything().get(n) is value for value in values)]
    if not matches:
        return contnode
    entry = entries[matches[0]]
    return make_refnode(
        app.builder, node["refdoc"], entry.docname, entry.node_id, contnode, matches[0]
    )


@cache
def everything() -> dict[str, Any]:
    """qattn's modules and what they and their classes define or list, by full names."""
    values: dict[str, Any] = {}
    names = [info.name for info in pkgutil.walk_packages(qattn.__path__, "qattn.")]
    for module_name in ["qattn", *names]:
        if module_name.endswith("__main__"):  # importing it runs it
            continue
        if module_name.rpartition("._")[2] in kernels.LEVELS:  # compiled loops are no modules
            continue
        module = values[module_name] = import_module(module_name)
        for name in {*vars(module), *getattr(module, "__all__", ())}:
            value = getattr(module, name)
            if not getattr(value, "__module__", "qattn").startswith("qattn"):
                continue
            values[f"{module_name}.{name}"] = value
            if isinstance(value, type):
                members = dict.fromkeys(getattr(value, "__annotations__", ())) | dict(vars(value))
                values |= {f"{module_name}.{name}.{m}": v for m, v in members.items()}
    return values


def keep_first_line(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Napoleon takes an attribute's docstring "Rate: of what" for a type and a text."""
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]


def bar(inliner: Any, match: re.Match[str], lineno: int) -> Any:
    """|x_j| is an absolute value, not a substitution."""
    start = match.end("start")
    end = match.string.find("|", start) + 1 or start
    return match.string[:end], [], match.string[end:], []
