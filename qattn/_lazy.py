"""Packages that import their modules when a name of theirs is first used."""

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def lazy(package: str, file: str) -> tuple[Callable[[str], Any], list[str]]:
    """``__getattr__`` and ``__all__`` of a package, so that importing it imports nothing else.

    The public names are those that its file imports for type checkers, under ``TYPE_CHECKING``:
    the one list, which editors and mypy read too.

    Args:
        package: Its ``__name__``.
        file: Its ``__file__``.
    """
    (listing,) = (
        node
        for node in ast.parse(Path(file).read_text(encoding="utf-8")).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    module_of = {
        alias.name: str(node.module)
        for node in listing.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    def get(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = module_of[name]
        if module == package:
            return import_module(f"{package}.{name}")
        value = getattr(import_module(module), name)
        setattr(sys.modules[package], name, value)  # so that the next look-up does not come here
        return value

    return get, sorted(module_of)
