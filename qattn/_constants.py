"""Constant tensors, made once and good for every later call."""

from collections.abc import Callable
from functools import lru_cache
from typing import ParamSpec, TypeVar

import torch
from torch.utils._python_dispatch import _disable_current_modes

P = ParamSpec("P")
T = TypeVar("T")


def cached_constant(maxsize: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A cache for functions whose tensors depend on (hashable) arguments only.

    What surrounds the first call leaves no trace in them: they are ordinary tensors, made without
    inference mode, FakeTensorMode or tracing, and on the CPU if the function names no device.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        def made(*args: P.args, **kwargs: P.kwargs) -> T:
            with _disable_current_modes(), torch.inference_mode(False), torch.device("cpu"):
                return function(*args, **kwargs)

        return lru_cache(maxsize)(made)  # type: ignore[return-value]

    return decorate
