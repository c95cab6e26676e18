"""What users are shown is public: pages, notebooks and README use only what packages list."""

import ast
import json
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import pytest

import qattn

ROOT = Path(__file__).parent.parent
API_PAGES = sorted((ROOT / "docs" / "api").glob("*.md"))
SHOWN = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHOWN += sorted((ROOT / "notebooks").glob("*.ipynb"))
PUBLIC_MODULES = ("qattn.exact.tree", "qattn.testing")
PACKAGES = ["qattn"]
PACKAGES += [info.name for info in pkgutil.walk_packages(qattn.__path__, "qattn.") if info.ispkg]
LAZY = ["qattn", "qattn.hardware", "qattn.simulators"]


def is_public(name):
    """Whether a dotted name leads through packages to what one of them lists, and maybe on."""
    place, *rest = name.split(".")
    for part in rest:
        if place in PUBLIC_MODULES:
            return not part.startswith("_") and hasattr(import_module(place), part)
        inner = f"{place}.{part}"
        if inner not in (*PACKAGES, *PUBLIC_MODULES):
            return part in import_module(place).__all__
        place = inner
    return True


def documented(page):
    """Names after the directives of a page that take something from the code."""
    return re.findall(r"^\.\. (?:auto\w+|py:\w+):: (\S+)", page, flags=re.MULTILINE)


def used(code):
    """Dotted names from qattn that a piece of Python imports, or reaches through what it imports.

    A chain of attributes is followed from the imported name on: ``qattn.exact.sample`` counts as
    that, and so does ``exact.sample`` after ``from qattn import exact``.
    """
    tree = ast.parse(code)
    names, full_names = set(), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                local = alias.asname or alias.name.partition(".")[0]
                full_names[local] = alias.name if alias.asname else local
                names.add(alias.name)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                full_names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                names.add(f"{node.module}.{alias.name}")
    for node in ast.walk(tree):
        parts = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if parts and isinstance(node, ast.Name) and node.id in full_names:
            names.add(".".join([full_names[node.id], *reversed(parts)]))
    return sorted(name for name in names if name.partition(".")[0] == "qattn")


def code_of(path):
    """All Python of a notebook's cells or of a page's blocks."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        return re.sub("^%.*", "", "\n".join("".join(c["source"]) for c in cells), flags=re.M)
    return "\n".join(re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_lists_its_names(package):
    module = import_module(package)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    assert len(set(module.__all__)) == len(module.__all__)


@pytest.mark.parametrize("package", LAZY)
def test_type_checkers_see_what_lazy_packages_list(package):
    (file,) = (Path(folder) / "__init__.py" for folder in import_module(package).__path__)
    tree = ast.parse(file.read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    seen = {alias.asname for node in imports for alias in node.names if alias.asname}
    assert seen == set(import_module(package).__all__)


@pytest.mark.parametrize("page", API_PAGES, ids=lambda path: path.stem)
def test_api_pages_document_public_names(page):
    names = documented(page.read_text(encoding="utf-8"))
    assert [name for name in names if "." in name and not is_public(name)] == []
    modules = re.findall(r"automodule:: (\S+)", page.read_text(encoding="utf-8"))
    assert set(modules) <= {*PACKAGES, *PUBLIC_MODULES}


def test_api_pages_were_read():
    assert len([name for page in API_PAGES for name in documented(page.read_text())]) > 40


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: path.stem)
def test_examples_use_public_names(path):
    assert [name for name in used(code_of(path)) if not is_public(name)] == []


def test_examples_were_read():
    assert {"qattn.exact.mean_spins", "qattn.load", "qattn.hardware.calibrate_device"} <= {
        name for path in SHOWN for name in used(code_of(path))
    }


@pytest.mark.parametrize(
    "code",
    [
        "from qattn.backends.base import check_num_reads",
        "import qattn.exact.dense.layout",
        "import qattn\nqattn.layers.MultiheadAttention",
        "from qattn import exact\nexact.memory.check_memory(1)",
        "from qattn.testing import no_such_name",
        "from qattn import no_such_name",
    ],
)
def test_internal_names_are_found(code):
    assert [name for name in used(code) if not is_public(name)] != []


def test_internal_names_on_pages_are_found():
    page = (
        ".. autoclass:: qattn.layers.MultiheadAttention\n   :members:\n.. autoclass:: qattn.Backend"
    )
    assert [name for name in documented(page) if not is_public(name)] == [
        "qattn.layers.MultiheadAttention"
    ]
