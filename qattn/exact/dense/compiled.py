"""The exact moments of dense couplings by compiled loops, in float32 on the CPU.

The arithmetic is that of :mod:`qattn.exact.dense.factorised`, the twin, for 16 queries at a time,
and all blocks of a layout in one call. What the forward pass leaves stands in one tensor, the
workspace; only the loops know how.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qattn import kernels
from qattn._tracing import cached_constant
from qattn.exact.dense.layout import Layout, padded
from qattn.exact.memory import check_layout

LANES = 16


class Plan(NamedTuple):
    """A layout as the loops take it.

    Attributes:
        blocks: First query, last query + 1, number of spins, and offset in the workspace.
        lengths: Number of spins of each query, in the order of the layout.
        order: Place in the batch of each query.
        size: Numbers that the workspace has for each group.
    """

    blocks: Int[Tensor, "blocks 4"]
    lengths: Int[Tensor, "#groups queries"]
    order: Int[Tensor, " queries"]
    size: int

    def arguments(self, h: Tensor) -> tuple[Tensor | int, ...]:
        """What both functions take first, for h or a tensor of its shape."""
        blocks, lengths = self.blocks, self.lengths
        return (blocks, len(blocks) - 1, lengths, len(lengths), self.order, *h.shape)


@cached_constant(maxsize=256)
def plan(lay: Layout) -> Plan:
    """How the loops go through the queries of a layout."""
    rows = [(block.start, block.end, block.num_spins, 0) for block in lay.blocks]
    blocks = torch.tensor([*rows, (0, 0, 0, 0)])
    kernels.call("dense_layout", blocks, len(rows))
    lengths = lay.lengths().to(torch.int32).contiguous()
    order = torch.arange(lengths.shape[1]) if lay.order is None else lay.order
    return Plan(blocks, lengths, order, LANES * int(blocks[-1, 3]))


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
    the_plan = plan(lay)
    J = padded(J, lay).contiguous()
    workspace = h.new_empty(len(h), the_plan.size)
    occupations = torch.empty_like(h)
    log_Z = h.new_empty(h.shape[:2]) if wants_log_Z else None
    accurate = h.new_empty((), dtype=torch.int64)
    kernels.call(
        "dense_forward",
        *(*the_plan.arguments(h), h, *h.stride(), J, lay.num_spins, workspace, the_plan.size),
        *(occupations, *occupations.stride(), log_Z, int(normalize), coupling_limit, accurate),
    )
    if not accurate.item():
        return None
    return tuple(x for x in (occupations, log_Z, workspace) if x is not None)


def backward(
    lay: Layout,
    grad_log_Z: Float[Tensor, "g q"] | None,
    grad: Float[Tensor, "g q n"],
    workspace: Float[Tensor, "g size"],
) -> tuple[Float[Tensor, "g q n"], Float[Tensor, "g n n"]]:
    """Gradients in h and J."""
    the_plan, (G, _, n), N = plan(lay), grad.shape, lay.num_spins
    if grad_log_Z is not None:
        grad_log_Z = grad_log_Z.contiguous()
    workspace = workspace.contiguous()
    grad_h, grad_J = torch.empty_like(grad), grad.new_empty(G, N, N)
    kernels.call(
        "dense_backward",
        *(*the_plan.arguments(grad), workspace, the_plan.size, grad, *grad.stride()),
        grad_log_Z,
        grad_h,
        *grad_h.stride(),
        grad_J,
        N,
    )
    return grad_h, grad_J[:, :n, :n]
