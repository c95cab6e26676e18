"""Tensors without values, which tracing passes around, and constants that outlive it."""

from collections.abc import Callable
from functools import lru_cache
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

P = ParamSpec("P")
T = TypeVar("T")


def is_traced(x: Tensor) -> bool:
    """Whether x only stands for values: in torch.compile, torch.export, FakeTensorMode, on meta.

    Then nothing may depend on its values. A tensor inside ``torch.func.vmap`` has them.
    """
    ordinary = type(x) is Tensor or isinstance(x, torch.nn.Parameter)
    return torch.compiler.is_compiling() or x.is_meta or not ordinary


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
