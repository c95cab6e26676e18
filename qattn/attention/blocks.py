"""Masks over block couplings: each block of a head is a head of its own, with a dense J."""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from qattn.attention.compaction import Mask, by_row
from qattn.couplings import Block


class Blocks(NamedTuple):
    """A call whose heads are the blocks of its heads; blocks are independent of each other.

    Attributes:
        fields: Those of the positions of each block.
        couplings: J of each block.
        mask: Where a query sees a position of the block.
        beta: A number, or one for each block.
        at: The position that each row of J has, where rows were given.
        num_positions: Number of positions.
    """

    fields: Float[Tensor, "batch blocks queries m"]
    couplings: Float[Tensor, "groups m m"]
    mask: Mask
    beta: float | Tensor
    at: Int[Tensor, "#batch rows"] | None
    num_positions: int

    def placed(
        self, weights: Float[Tensor, "batch blocks queries m"], num_heads: int
    ) -> Float[Tensor, "batch heads queries positions"]:
        """Weights of blocks as those of all positions of a head."""
        found: Tensor = weights.unflatten(1, (num_heads, -1)).transpose(2, 3).flatten(3)
        if self.at is None:
            return found[..., : self.num_positions]
        found = found[..., : self.at.shape[-1]]
        index = self.at[:, None, None].expand_as(found)
        # Rows that no position has are absent and have weight 0.
        return found.new_zeros(*found.shape[:3], self.num_positions).scatter_add(-1, index, found)


def by_block(
    fields: Float[Tensor, "batch heads queries positions"],
    couplings: Block,
    beta: float | Tensor,
    mask: Mask,
    rows: Int[Tensor, "#batch positions"] | None,
) -> Blocks:
    """The call of the blocks; arguments as in :func:`qattn.attention.compaction.compacted`."""
    at, (B, H, Q, n) = None, fields.shape
    if rows is not None:
        mask, at = by_row(mask, rows, couplings.num_spins)
        fields = fields.gather(-1, at[:, None, None].expand(B, H, Q, -1))
    blocks, m = couplings.values.shape[1:3]
    missing = blocks * m - fields.shape[-1]
    fields, mask = (
        F.pad(x, (0, missing)).unflatten(-1, (blocks, m)).transpose(2, 3) for x in (fields, mask)
    )
    mask = mask.expand(-1, H, -1, -1, -1).flatten(1, 2)
    if isinstance(beta, Tensor) and beta.ndim:
        beta = beta.repeat_interleave(blocks)
    return Blocks(fields.flatten(1, 2), couplings.values.flatten(0, 1), mask, beta, at, n)
