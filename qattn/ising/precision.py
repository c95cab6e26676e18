"""Ising models are computed in float32 or float64, whatever the precision around them."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def at_least_single(x: Tensor) -> Tensor:
    """`x` in float32 if it is of half precision (float16 or bfloat16), and as it is otherwise."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """A context in which ``torch.autocast`` lowers no precision on `device`."""
    kind = device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)
