"""Bands by the compiled loops, for float32 on the CPU and widths up to 8."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qattn import kernels

WIDTH_LIMIT = 8


def serves(h: Float[Tensor, "g n q"], values: Float[Tensor, "g n w"]) -> bool:
    """Whether there is a loop for these."""
    return kernels.usable(h, values) and 1 <= values.shape[2] <= WIDTH_LIMIT


def moments(
    h: Float[Tensor, "g n q"],
    values: Float[Tensor, "g n w"],
    lengths: Int[Tensor, "#g q"],
    up: Tensor,
    log_Z: Tensor,
    least: Tensor,
) -> None:
    """As :func:`qattn.exact.chain.scan.moments`, of all queries in any order."""
    h = h.contiguous()
    sizes = len(lengths) > 1, *h.shape, values.shape[2]
    kernels.call(
        "chain_forward",
        h,
        values,
        torch.tensor(values.stride()),
        up,
        log_Z,
        least,
        lengths.contiguous(),
        *(int(x) for x in sizes),
    )
