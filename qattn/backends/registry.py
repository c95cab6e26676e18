"""Backends by name: those registered in this process and those of installed packages."""

import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from qattn.backends.base import Backend
from qattn.backends.refine import RefinedBackend

ENTRY_POINT_GROUP = "qattn.backends"
"""A package adds a backend with an entry point of this group: its name, and a Backend class."""

_registered: dict[str, Callable[..., Backend]] = {}


@dataclass(frozen=True)
class BackendInfo:
    """What is known about a backend without building it.

    Attributes:
        name: Its name for :func:`get_backend`.
        description: What it is, in one line.
        available: Whether it can run here.
        missing: What is missing and how to get it, or None.
    """

    name: str
    description: str
    available: bool
    missing: str | None


def register_backend(name: str, factory: Callable[..., Backend]) -> None:
    """Add a backend to this process, under a name that hides an installed one of the same name.

    Args:
        name: The name for :func:`get_backend`.
        factory: A :class:`Backend` class, or a function of keyword options that builds one.

    Raises:
        ValueError: `name` is empty.
        TypeError: `factory` cannot be called.
    """
    if not name:
        raise ValueError("Argument `name` must not be empty.")
    if not callable(factory):
        raise TypeError(f"Argument `factory` must be callable, but is {type(factory).__name__}.")
    _registered[name] = factory


def get_backend(name: str, *, refine_sweeps: int = 0, **options: Any) -> Backend:
    """Build a backend.

    Args:
        name: One of ``available_backends()``.
        refine_sweeps: Gibbs sweeps of the target distribution over the backend's reads
            (:func:`qattn.backends.refine`); every backend takes this option.
        **options: Options of the backend itself.

    Raises:
        ValueError: There is no backend `name`, or it takes no such option.
        ImportError: A package that the backend needs is missing.
    """
    factory = load_backend(name)
    missing = _missing(factory)
    if missing is not None:
        raise ImportError(f"Backend {name!r} cannot run here: {missing}.")
    _check_options(name, factory, options)
    backend = factory(**options)
    return RefinedBackend(backend, refine_sweeps) if refine_sweeps else backend


def available_backends() -> list[BackendInfo]:
    """All backends by name, those that cannot run here too; loads their modules."""
    return [_info(name) for name in sorted(set(_registered) | set(_installed()))]


def _info(name: str) -> BackendInfo:
    try:
        factory = load_backend(name)
        missing = _missing(factory)
    except Exception as error:  # a broken package must not hide the others
        return BackendInfo(name, "", False, " ".join(str(error).split()))
    description = getattr(factory, "description", "") or (inspect.getdoc(factory) or "")
    return BackendInfo(name, description.partition("\n")[0], missing is None, missing)


def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}


def load_backend(name: str) -> Callable[..., Backend]:
    """The class or factory behind a name; its modules are imported now.

    Raises:
        ValueError: There is no such backend; the error has the nearest names.
    """
    if name in _registered:
        return _registered[name]
    installed = _installed()
    if name in installed:
        factory: Callable[..., Backend] = installed[name].load()
        return factory
    names = sorted(set(_registered) | set(installed))
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        hint = f"did you mean {_quoted(near)}?"
    else:
        hint = f"there are {_quoted(names) or 'none (is qattn installed?)'}."
    raise ValueError(f"Argument `name` must be a registered backend, but is {name!r}: {hint}")


def _missing(factory: Callable[..., Backend]) -> str | None:
    missing = getattr(factory, "missing", None)
    return None if missing is None else missing()


def _check_options(name: str, factory: Callable[..., Backend], options: dict[str, Any]) -> None:
    parameters = inspect.signature(factory).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    known = [p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ValueError(
            f"Backend {name!r} has no option {_quoted(unknown)}; "
            f"its options are {_quoted([*known, 'refine_sweeps'])}."
        )


def _quoted(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names)
