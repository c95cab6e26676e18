"""Backends by name: those registered in this process and those of installed packages."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from qattn.backends.base import Backend
from qattn.backends.options import Option, declared_options, nearest, quoted, takes_any_option
from qattn.backends.refine import RefinedBackend

ENTRY_POINT_GROUP = "qattn.backends"
"""A package adds a backend with an entry point of this group: its name, and a Backend class."""

REFINE_SWEEPS = Option("refine_sweeps", int, 0, "Gibbs sweeps of the target over the reads.")
"""The option that every backend takes."""

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

    >>> get_backend("neal", num_sweeps=50).options
    NealBackend.Options(num_sweeps=50, max_sweeps=2560, ramp_sweeps=0)
    >>> get_backend("neal", num_sweep=50)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: Backend 'neal' has no option 'num_sweep': did you mean 'num_sweeps'? ...

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
    for option in options:
        find_option(name, option)
    backend = factory(**options)
    return RefinedBackend(backend, refine_sweeps) if refine_sweeps else backend


def available_backends() -> list[BackendInfo]:
    """All backends by name, those that cannot run here too; loads their modules.

    >>> {info.name: info.available for info in available_backends()}["exact"]
    True
    """
    return [_info(name) for name in sorted(set(_registered) | set(_installed()))]


def _info(name: str) -> BackendInfo:
    try:
        factory = load_backend(name)
        missing = _missing(factory)
    except Exception as error:  # a broken package must not hide the others
        return BackendInfo(name, "", False, " ".join(str(error).split()))
    description = getattr(factory, "description", "") or (inspect.getdoc(factory) or "")
    return BackendInfo(name, description.partition("\n")[0], missing is None, missing)


def _installed() -> dict[str, Any]:  # the package importlib_metadata has its own EntryPoint
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
    hint = nearest(name, names, count=3)
    hint = hint or f"there are {quoted(names) or 'none (is qattn installed?)'}."
    raise ValueError(f"Argument `name` must be a registered backend, but is {name!r}: {hint}")


def options_of(backend: str | Callable[..., Backend]) -> dict[str, Option]:
    """Options that :func:`get_backend` takes for a backend, by name.

    >>> options_of("neal")["num_sweeps"].default
    'auto'

    Args:
        backend: The name of a backend, or a class or function that builds one.

    Raises:
        ValueError: There is no backend of this name.
    """
    factory = load_backend(backend) if isinstance(backend, str) else backend
    return declared_options(factory) | {REFINE_SWEEPS.name: REFINE_SWEEPS}


def find_option(backend: str, name: str) -> Option:
    """The option `name` of a backend.

    Raises:
        ValueError: There is no such backend, or it has no such option; the error has the nearest.
    """
    options = options_of(backend)
    if name in options:
        return options[name]
    if takes_any_option(load_backend(backend)):
        return Option(name, Any, None)
    hint = nearest(name, options)
    its = f"{hint} Its" if hint else "its"
    raise ValueError(
        f"Backend {backend!r} has no option {name!r}: {its} options are {quoted(options)}."
    )


def _missing(factory: Callable[..., Backend]) -> str | None:
    missing = getattr(factory, "missing", None)
    return None if missing is None else missing()
