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
    h: Float[Tensor, "g n q"], values: Float[Tensor, "g n w"], lengths: Int[Tensor, "#g q"]
) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`qattn.exact.chain.scan.moments`, of all queries in any order."""
    h, lengths = h.contiguous(), lengths.contiguous()
    (G, n, Q), w = h.shape, values.shape[2]
    up, log_Z, least = torch.empty_like(h), h.new_empty(G, Q), h.new_empty(G, Q)
    tensors = h, values, torch.tensor(values.stride(), device="cpu"), up, log_Z, least, lengths
    kernels.call("chain_forward", *tensors, int(len(lengths) > 1), G, n, Q, w)
    return up, log_Z, least


def gradients(
    grad_up: Tensor | None,
    grad_log_Z: Tensor | None,
    h: Float[Tensor, "g n q"],
    values: Float[Tensor, "g n w"],
    lengths: Int[Tensor, "#g q"],
    up: Float[Tensor, "g n q"],
) -> tuple[Float[Tensor, "g n q"], Float[Tensor, "g n w"]]:
    """As :func:`qattn.exact.chain.scan.gradients`, of all queries in any order."""
    h, lengths = h.contiguous(), lengths.contiguous()
    (G, n, Q), w = h.shape, values.shape[2]
    # Threads that share a group have sums of their own, which are added up in a fixed order.
    shares = -(-torch.get_num_threads() // max(1, G))
    grad_h, grad_values = torch.empty_like(h), h.new_empty(G, shares, n, w)
    strides = torch.tensor(values.stride(), device="cpu")
    tensors = h, values, strides, up.contiguous(), grad_h, grad_values
    outer = (x if x is None else x.contiguous() for x in (grad_up, grad_log_Z))
    sizes = int(len(lengths) > 1), G, n, Q, w, shares
    kernels.call("chain_backward", *outer, *tensors, lengths, *sizes)
    return grad_h, grad_values.sum(1)
