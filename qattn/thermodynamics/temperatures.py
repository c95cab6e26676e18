"""The inverse temperatures of a curve."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def as_betas(betas: Float[Tensor, " betas"] | Sequence[float]) -> Float[Tensor, " betas"]:
    """The inverse temperatures in float64 on the CPU, checked.

    Raises:
        ValueError: They are not a row of finite numbers that ascend from 0 or more.
    """
    values = torch.as_tensor(betas, dtype=torch.float64, device="cpu").detach()
    if values.ndim != 1 or not len(values) or not bool(values.isfinite().all()):
        raise ValueError(f"Argument `betas` must be a row of finite numbers, but is {betas}.")
    if float(values[0]) < 0 or bool((values.diff() <= 0).any()):
        raise ValueError(
            f"Argument `betas` must ascend from 0 or more, but is {values.tolist()}: sort it."
        )
    return values
