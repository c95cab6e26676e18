"""Self-contained HTML pages: templates, pictures inside the page, versions."""

import base64
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from qattn._version import __version__

PACKAGES = ("torch", "numpy", "scipy", "dimod", "dwave-samplers", "dwave-system", "qutip")
"""Packages whose versions a page states."""


def page(template: str, **values: Any) -> str:
    """The page of a template of this package, with `versions` among its values."""
    environment = Environment(
        loader=PackageLoader("qattn.compare"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render({"versions": versions()} | values)


def versions() -> dict[str, str]:
    """Versions of Python, qattn and what samples."""
    found = {"qattn": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def data_uri(picture: Path) -> str:
    """A PNG as the source of an image."""
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode("ascii")
