"""The tree of products by the compiled kernel, some queries side by side."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qattn import kernels
from qattn.couplings import Couplings
from qattn.exact.counts.moments import smallest
from qattn.exact.engine import Solution


def forward(
    h: Float[Tensor, "groups n queries"], couplings: Couplings, lengths: Int[Tensor, "#g queries"]
) -> Solution:
    """Occupations, log Z and, saved, the tilt of every query."""
    groups, n, queries = h.shape
    h, values, lengths = h.contiguous(), couplings.values.contiguous(), lengths.contiguous()
    up, (log_Z, tilt, least) = torch.zeros_like(h), h.new_empty(3, groups, queries)
    sizes = groups, n, queries, values.shape[1] - 1, len(lengths)
    kernels.call("counts_forward", h, values, lengths, up, log_Z, tilt, least, *sizes)
    return Solution(up, log_Z, (least > smallest(h.dtype)).all(), (tilt,))


def backward(
    grad_up: Float[Tensor, "groups n queries"] | None,
    grad_log_Z: Float[Tensor, "groups queries"] | None,
    h: Float[Tensor, "groups n queries"],
    couplings: Couplings,
    lengths: Int[Tensor, "#g queries"],
    tilt: Float[Tensor, "groups queries"],
) -> tuple[Float[Tensor, "groups n queries"], Tensor]:
    """Gradients in h and in log φ."""
    groups, n, queries = h.shape
    h, values, lengths = h.contiguous(), couplings.values.contiguous(), lengths.contiguous()
    if grad_up is not None:
        grad_up = grad_up.contiguous()
    else:
        assert grad_log_Z is not None
        grad_log_Z = grad_log_Z.contiguous()
    grad_h = torch.zeros_like(h)
    parts = values.new_zeros(groups, -(-queries // kernels.lanes()), values.shape[1])
    inputs = grad_up, grad_log_Z, h, values, lengths, tilt
    sizes = groups, n, queries, values.shape[1] - 1, len(lengths)
    kernels.call("counts_backward", *inputs, grad_h, parts, *sizes)
    return grad_h, parts.sum(1)
