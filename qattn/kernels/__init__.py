r"""Compiled inner loops, each beside a plain PyTorch twin that gives the same to rounding.

A small C++ library behind a plain C interface, built when the package is installed where there is
a compiler, once for each level of vector instructions; where there is none, the twins run. It
works on float32 tensors on the CPU. ``QATTN_KERNELS=off`` switches it off, and
``QATTN_KERNELS=avx2`` takes a lower level than the machine has.
"""

import ctypes
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["call", "disabled", "in_use", "lanes", "level", "usable"]

LANES = {"avx512": 16, "avx2": 8, "baseline": 4}
"""Levels of vector instructions, the fastest first, and the queries that each solves at a time."""

LEVELS = tuple(LANES)

INTERFACE = 1
"""Number of the functions and arguments that are called, which a library must have too."""

_enabled = True


def level() -> str | None:
    """The level of the library that is in use; None if the PyTorch twins run."""
    found = _library()
    return None if isinstance(found, str) or not _enabled else found[0]


def lanes() -> int:
    """Queries that the library in use solves side by side."""
    return LANES[level() or "baseline"]


def in_use() -> str:
    """The level that is in use, or why there is none, in words."""
    if (found := level()) is not None:
        return found
    reason = _library()
    why = reason if isinstance(reason, str) and _enabled else "switched off"
    return f"none, {why}: PyTorch does their work"


def usable(*tensors: Tensor) -> bool:
    """Whether there is a library, and these are plain float32 tensors on the CPU."""
    return level() is not None and all(
        x.dtype == torch.float32 and x.device.type == "cpu" for x in tensors
    )


def call(name: str, *arguments: "Tensor | int | float | None") -> None:
    """Call ``qattn_<name>`` of the library with the number of PyTorch's threads as last argument.

    Tensors become pointers to their first element (None a null pointer): strides are the caller's
    affair. Whole numbers become int64, others float.
    """
    found = _library()
    assert not isinstance(found, str), "no compiled library: ask `usable` first"
    converted = [
        ctypes.c_void_p(a.data_ptr() if isinstance(a, Tensor) else None)
        if a is None or isinstance(a, Tensor)
        else (ctypes.c_int64(a) if isinstance(a, int) else ctypes.c_float(a))
        for a in arguments
    ]
    getattr(found[1], f"qattn_{name}")(*converted, ctypes.c_int64(torch.get_num_threads()))


@contextmanager
def disabled() -> Iterator[None]:
    """A context in which the PyTorch twins run."""
    global _enabled
    before, _enabled = _enabled, False
    try:
        yield
    finally:
        _enabled = before


def _wanted() -> str:
    wanted = os.environ.get("QATTN_KERNELS", "")
    if wanted not in ("", "off", *LEVELS):
        raise ValueError(
            f"Environment variable QATTN_KERNELS must be off or one of {', '.join(LEVELS)}, "
            f"or not be set, but is {wanted!r}."
        )
    return wanted


@cache
def _library() -> tuple[str, ctypes.CDLL] | str:
    """The fastest library that was built and that this machine can run, or why there is none."""
    wanted = _wanted()
    if wanted == "off":
        return "switched off"
    capability = torch.backends.cpu.get_cpu_capability()
    runs = {"AVX512": LEVELS, "AVX2": LEVELS[1:]}.get(capability, LEVELS[2:])
    for name in (wanted,) if wanted in runs else runs:
        for file in Path(__file__).parent.glob(f"_{name}*.so"):
            try:
                library = ctypes.CDLL(str(file))
            except OSError:
                continue
            if _interface(library) != INTERFACE:
                # As in a clone that was updated after it was installed.
                old = "built for an earlier version: `pip install -e .` builds them anew"
                warnings.warn(f"The compiled inner loops are not used, {old}.", stacklevel=3)
                return old
            return name, library
    return "not built for want of a C++ compiler"


def _interface(library: ctypes.CDLL) -> int:
    """Number of the functions and arguments that a library has; 0 before they were numbered."""
    number = getattr(library, "qattn_interface", None)
    return 0 if number is None else int(number())
