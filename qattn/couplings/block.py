"""Dense couplings within blocks of positions."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from qattn.couplings.base import Couplings, beta_like, check_values


class Block(Couplings):
    r"""Independent blocks of m successive positions, each with a dense J of its own.

    Position j belongs to block ⌊j/m⌋; the last block may have fewer than m positions, and its
    couplings to those that there are not are ignored.

    Args:
        values: Shape (groups, blocks, m, m), each symmetric with zero diagonal, to rounding as a
            dense J of :class:`qattn.IsingBatch`.
        num_spins: Number of spins n, more than (blocks - 1)·m and at most blocks·m.

    Raises:
        ValueError: `values` does not have this shape, or `num_spins` does not fit it.

    >>> import torch
    >>> pair = torch.tensor([[0.0, 0.5], [0.5, 0.0]])
    >>> Block(pair.expand(1, 2, 2, 2), num_spins=3).dense()
    tensor([[[0.0000, 0.5000, 0.0000],
             [0.5000, 0.0000, 0.0000],
             [0.0000, 0.0000, 0.0000]]])
    """

    kind: ClassVar[str] = "block"

    def __init__(self, values: Float[Tensor, "groups blocks m m"], num_spins: int) -> None:
        check_values("values", values, "(groups, blocks, m, m)", 4)
        blocks, m = values.shape[1:3]
        if values.shape[3] != m or not (blocks - 1) * m < num_spins <= blocks * m:
            raise ValueError(
                f"Argument `num_spins` must lie in the last of the blocks of `values`, whose shape "
                f"is {tuple(values.shape)}, but is {num_spins}."
            )
        self.values, self._num_spins = values, num_spins

    @property
    def num_spins(self) -> int:
        """Number of spins n."""
        return self._num_spins

    @property
    def block_size(self) -> int:
        """Positions of a block, m."""
        return self.values.shape[2]

    @property
    def options(self) -> tuple[int, ...]:
        """The number of spins."""
        return (self._num_spins,)

    def dense(self) -> Float[Tensor, "groups n n"]:
        """J as a matrix."""
        blocks, m, n = self.values.shape[1], self.block_size, self.num_spins
        same = torch.eye(blocks, dtype=self.dtype, device=self.device)
        J = self.values.unsqueeze(3) * same[:, None, :, None]  # (groups, block, i, block, j)
        return J.reshape(self.num_groups, blocks * m, blocks * m)[:, :n, :n]

    def matvec(self, s: Float[Tensor, "groups n columns"]) -> Float[Tensor, "groups n columns"]:
        """Σ_k J_jk s_k, in O(n m) a column."""
        blocks, m, n = self.values.shape[1], self.block_size, self.num_spins
        padded = F.pad(s, (0, 0, 0, blocks * m - n)).unflatten(1, (blocks, m))
        product: Tensor = self.values @ padded
        return product.flatten(1, 2)[:, :n]

    def leading(self, num_spins: int) -> "Block":
        """The couplings among the first spins."""
        blocks = -(-num_spins // self.block_size)
        return Block(self.values[:, :blocks], num_spins)

    def scaled(self, beta: float | Tensor) -> "Block":
        """βJ."""
        return Block(self.values * beta_like(beta, self.values), self.num_spins)
