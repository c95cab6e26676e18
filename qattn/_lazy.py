"""Packages that import their modules when a name of theirs is first used."""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy(
    package: str, names: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], list[str]]:
    """``__getattr__`` and ``__all__`` of a package, so that importing it imports nothing else.

    Args:
        package: Its ``__name__``.
        names: The public names by the module that defines them; a module without names is itself
            public, under its last name.
    """
    module_of = {
        name: (module, name if defined else None)
        for module, defined in names.items()
        for name in defined or [module.rpartition(".")[2]]
    }

    def get(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, attribute = module_of[name]
        value = import_module(module)
        if attribute is not None:
            value = getattr(value, attribute)
        setattr(sys.modules[package], name, value)  # so that the next look-up does not come here
        return value

    return get, sorted(module_of)
