"""The compiled sums of rank-one couplings: float32 on the CPU, some queries side by side."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qattn import kernels
from qattn.couplings import LowRank
from qattn.exact.engine import Solution

LARGEST_U = 2.0
"""|U| with which products of a few factors of the positive sign stay within float32's range."""


def usable(h: Float[Tensor, "groups n queries"], couplings: LowRank) -> bool:
    """Whether there are compiled sums for these models."""
    U = couplings.values.detach()
    if not kernels.usable(h, U) or h.numel() == 0:
        return False
    return couplings.sign < 0 or float(U.abs().max()) <= LARGEST_U


def forward(
    h: Float[Tensor, "groups n queries"], couplings: LowRank, lengths: Int[Tensor, "#groups q"]
) -> Solution:
    """Occupations, log Z and the grid."""
    G, n, Q = h.shape
    h, U, lengths = h.contiguous(), couplings.values.contiguous(), lengths.contiguous()
    up, log_Z = torch.zeros_like(h), h.new_empty(G, Q)
    origin, step, number = h.new_empty(G, Q), h.new_ones(G, Q), lengths.new_ones(G, Q)
    accurate = h.new_zeros(G, _tiles(Q), dtype=torch.bool)
    outputs = up, log_Z, origin, step, number, accurate
    sizes = G, n, Q, len(lengths), couplings.sign
    kernels.call("quadrature_forward", h, U, lengths, *sizes, *outputs)
    return Solution(up, log_Z, accurate.all(), (origin, step, number))


def backward(
    grad_up: Float[Tensor, "groups n queries"] | None,
    grad_log_Z: Float[Tensor, "groups queries"] | None,
    h: Float[Tensor, "groups n queries"],
    couplings: LowRank,
    lengths: Int[Tensor, "#groups queries"],
    saved: tuple[Tensor, ...],
) -> tuple[Float[Tensor, "groups n queries"], Float[Tensor, "groups n"]]:
    """Gradients in h and U."""
    G, n, Q = h.shape
    grads = [None if grad is None else grad.contiguous() for grad in (grad_up, grad_log_Z)]
    h, U, lengths = h.contiguous(), couplings.values.contiguous(), lengths.contiguous()
    grad_h, grad_U = torch.zeros_like(h), h.new_zeros(G, _tiles(Q), n)
    sizes = G, n, Q, len(lengths), couplings.sign
    grid = [x.contiguous() for x in saved]
    kernels.call("quadrature_backward", *grads, h, U, lengths, *sizes, *grid, grad_h, grad_U)
    return grad_h, grad_U.sum(1)


def _tiles(num_queries: int) -> int:
    """Queries side by side share the number of their nodes."""
    return -(-num_queries // kernels.lanes())
