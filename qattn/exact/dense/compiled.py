"""The exact moments of dense couplings by compiled loops, in float32 on the CPU.

The arithmetic is that of :mod:`qattn.exact.dense.factorised`, the twin, for 16 queries at a time, and
all blocks of a layout in one call. What the forward pass leaves stands in one tensor, the workspace;
only the loops know how.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qattn import kernels
from qattn._tracing import cached_constant
from qattn.exact.dense.layout import Layout
from qattn.exact.memory import check_layout

LANES = 16


class Plan(NamedTuple):
    """A layout as the loops take it.

    Attributes:
        blocks: First query, last query + 1, number of spins, and offset in the workspace.
        lengths: Number of spins of each query, in the order of the layout.
        size: Numbers that the workspace has for each group.
    """

    blocks: Int[Tensor, "blocks 4"]
    lengths: Int[Tensor, "#groups queries"]
    size: int


@cached_constant(maxsize=256)
def plan(lay: Layout) -> Plan:
    """How the loops go through the queries of a layout."""
    rows = [(block.start, block.end, block.num_spins, 0) for block in lay.blocks]
    blocks = torch.tensor([*rows, (0, 0, 0, 0)])
    kernels.call("dense_layout", blocks, len(rows))
    lengths = lay.lengths().to(torch.int32).contiguous()
    return Plan(blocks, lengths, LANES * int(blocks[-1, 3]))


def forward(
    h: Float[Tensor, "g q n"],
    J: Float[Tensor, "g n n"],
    lay: Layout,
    wants_log_Z: bool,
    normalize: bool,
    coupling_limit: float,
) -> tuple[Tensor, ...] | None:
    """Occupations, log Z if requested, and the workspace; None if float32 does not hold them."""
    check_layout(lay, len(h), h.element_size())
    (G, Q, n), (blocks, lengths, size) = h.shape, plan(lay)
    workspace = h.new_empty(G, size)
    occupations = h.new_empty(G, n, Q)
    log_Z = h.new_empty(G, Q) if wants_log_Z else None
    accurate = torch.empty((), dtype=torch.int64)
    kernels.call(
        "dense_forward",
        *(h, h.stride(0), h.stride(2), h.stride(1), J.contiguous()),
        *(lengths, len(lengths), G, Q, n, blocks, len(lay.blocks), workspace, size),
        *(occupations, log_Z, int(normalize), coupling_limit, accurate),
    )
    if not accurate.item():
        return None
    return tuple(x for x in (occupations.mT, log_Z, workspace) if x is not None)


def backward(
    lay: Layout,
    grad_log_Z: Float[Tensor, "g q"] | None,
    grad: Float[Tensor, "g q n"],
    workspace: Float[Tensor, "g size"],
) -> tuple[Float[Tensor, "g q n"], Float[Tensor, "g n n"]]:
    """Gradients in h and J."""
    (G, Q, n), (blocks, lengths, size) = grad.shape, plan(lay)
    if grad_log_Z is not None:
        grad_log_Z = grad_log_Z.contiguous()
    grad_h, grad_J = grad.new_empty(G, n, Q), grad.new_empty(G, n, n)
    kernels.call(
        "dense_backward",
        *(grad, grad.stride(0), grad.stride(2), grad.stride(1), grad_log_Z),
        *(lengths, len(lengths), G, Q, n, blocks, len(lay.blocks), workspace.contiguous(), size),
        *(grad_h, grad_J),
    )
    return grad_h.mT, grad_J
