r"""Compiled inner loops, each beside a plain PyTorch twin that gives the same to rounding.

A small C++ library behind a plain C interface, built when the package is installed where there is
a compiler, once for each level of vector instructions; where there is none, the twins run. It
works on float32 tensors on the CPU. ``QATTN_KERNELS=off`` switches it off, and
``QATTN_KERNELS=avx2`` takes a lower level than the machine has.
"""

import ctypes
import os
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

_enabled = True


def level() -> str | None:
    """The level of the library that is in use; None if the PyTorch twins run."""
    found = _library()
    return found[0] if found and _enabled else None


def lanes() -> int:
    """Queries that the library in use solves side by side."""
    return LANES[level() or "baseline"]


def in_use() -> str:
    """The level that is in use, or why there is none, in words."""
    if (found := level()) is not None:
        return found
    if _wanted() == "off" or not _enabled:
        return "none, switched off: PyTorch does their work"
    return "none built, for want of a C++ compiler: PyTorch does their work"


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
    assert found is not None, "no compiled library: ask `usable` first"
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
def _library() -> tuple[str, ctypes.CDLL] | None:
    """The fastest library that was built and that this machine can run."""
    wanted = _wanted()
    if wanted == "off":
        return None
    capability = torch.backends.cpu.get_cpu_capability()
    runs = {"AVX512": LEVELS, "AVX2": LEVELS[1:]}.get(capability, LEVELS[2:])
    for name in (wanted,) if wanted in runs else runs:
        for file in Path(__file__).parent.glob(f"_{name}*.so"):
            try:
                library = ctypes.CDLL(str(file))
            except OSError:
                continue
            return name, library
    return None
