"""Pages of a comparison: templates, pictures in three formats, and what they were made with."""

import base64
import json
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from qattn._version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PACKAGES = ("torch", "numpy", "scipy", "dimod", "dwave-samplers", "dwave-system", "qutip")
"""Packages whose versions a page states."""

DPI = 130

FORMATS = ("png", "svg", "pdf")
"""Formats of every picture; the first one is embedded in the page."""


def save_pictures(
    figures: Mapping[str, "Figure"],
    folder: Path,
    captions: Mapping[str, str] | None = None,
    prefix: str = "",
) -> tuple[list[dict[str, str]], list[Path]]:
    """Write pictures in all :data:`FORMATS`; returns what a page shows of each, and their paths."""
    pictures, paths = [], []
    for name, figure in figures.items():
        for suffix in FORMATS:
            paths.append(folder / f"{prefix}{name}.{suffix}")
            figure.savefig(paths[-1], dpi=DPI)
        image = (folder / f"{prefix}{name}.png").read_bytes()
        data = "data:image/png;base64," + base64.b64encode(image).decode("ascii")
        pictures.append({"name": name, "caption": (captions or {}).get(name, ""), "data": data})
    return pictures, paths


def write_page(
    path: Path, *, package: str = "qattn.compare", template: str | None = None, **values: Any
) -> None:
    """Write the page of a package's template for a file, with `versions` among its values.

    Args:
        path: The file.
        package: Package whose folder ``templates`` has its template, which may extend
            ``page.html.j2``.
        template: The template; None means the file's name and .j2.
        values: What it shows.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("qattn.compare")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["rounded"] = rounded
    page = environment.get_template(template or f"{path.name}.j2")
    path.write_text(page.render({"versions": versions()} | values), encoding="utf-8")


@runtime_checkable
class Section(Protocol):
    """What a report has several of."""

    def to_dict(self) -> dict[str, Any]:
        """All of it, as plain values."""
        ...


S = TypeVar("S", bound=Section)


class Shown(NamedTuple):
    """What a page shows of a section: figures and captions by name, and values of its template."""

    figures: Mapping[str, "Figure"]
    captions: Mapping[str, str]
    values: Mapping[str, Any]


def write_sections(
    page: Path,
    sections: Sequence[S],
    show: Callable[[S], Shown],
    *,
    package: str,
    settings: Mapping[str, Any],
    command: str,
    created: str,
    **values: Any,
) -> list[Path]:
    """Write a report: its JSON, pictures in all :data:`FORMATS`, the page; returns their paths.

    Args:
        page: The page; the JSON has the same name, and the folder is made if it is missing.
        sections: What was found.
        show: What the page shows of each.
        package: As :func:`write_page`.
        settings: How it was found, for the page and the JSON.
        command: The command line that was called.
        created: Its date and time.
        values: What the page shows besides.
    """
    page.parent.mkdir(parents=True, exist_ok=True)
    context: dict[str, Any] = {"command": command, "created": created, "versions": versions()}
    paths = [page.with_suffix(".json")]
    found = [section.to_dict() for section in sections]
    data = {"settings": dict(settings), "sections": found, "context": context}
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
    paths[0].write_text(text + "\n", encoding="utf-8")
    on_page = []
    for number, section in enumerate(sections):
        prefix = "" if len(sections) == 1 else f"{number + 1}_"
        shown = show(section)
        pictures, files = save_pictures(shown.figures, page.parent, shown.captions, prefix)
        paths += files
        on_page.append({**shown.values, "pictures": pictures})
    values |= {"sections": on_page, "settings": dict(settings), "emulated": False}
    write_page(page, package=package, **values, **context)
    return [*paths, page]


def rounded(value: Any) -> str:
    """Numbers with four digits at most, alone or in lists; anything else as it is.

    >>> rounded([4.30769865078734, 2.0]), rounded(15341.2), rounded("fast")
    ('4.308, 2', '15341', 'fast')
    """
    if isinstance(value, (list, tuple)):
        return ", ".join(map(rounded, value))
    if isinstance(value, float):
        return f"{value:.0f}" if 1e3 <= abs(value) < 1e15 else f"{value:.4g}"
    return str(value)


def versions() -> dict[str, str]:
    """Versions of Python, qattn and the packages of :data:`PACKAGES`, git revision and CPU."""
    known = {"qattn": __version__}
    if revision := git_revision():
        known["revision"] = revision
    known["python"] = platform.python_version()
    for package in PACKAGES:
        try:
            known[package] = version(package)
        except PackageNotFoundError:
            continue
    return known | {"CPU": f"{cpu()}, {torch.get_num_threads()} threads of PyTorch"}


def git_revision() -> str:
    """Revision of the clone that qattn is imported from, "" if there is none.

    It ends in "-dirty" where files were changed.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def cpu() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
