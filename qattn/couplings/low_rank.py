"""Couplings at all distances that are a product."""

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qattn.couplings.base import Couplings, beta_like, check_values


class LowRank(Couplings):
    r"""Couplings of rank one, positive or negative, without the diagonal.

    .. math:: J_{jk} = \sigma U_j U_k \quad (j \ne k), \qquad \sigma = \pm 1

    With σ = 1 all spins feel one common field in proportion to U; with σ = -1 those with U of one
    sign compete.

    Args:
        values: U, shape (groups, n).
        sign: σ, 1 or -1.

    Raises:
        ValueError: `sign` is another number.

    >>> import torch
    >>> LowRank(torch.tensor([[1.0, 0.5, 2.0]]), sign=-1).dense()
    tensor([[[ 0.0000, -0.5000, -2.0000],
             [-0.5000,  0.0000, -1.0000],
             [-2.0000, -1.0000,  0.0000]]])
    """

    kind: ClassVar[str] = "low_rank"

    def __init__(self, values: Float[Tensor, "groups n"], sign: int = 1) -> None:
        check_values("values", values, "(groups, n)", 2)
        if sign not in (1, -1):
            raise ValueError(f"Argument `sign` must be 1 or -1, but is {sign}.")
        self.values, self.sign = values, sign

    @property
    def num_spins(self) -> int:
        """Number of spins n."""
        return self.values.shape[1]

    @property
    def options(self) -> tuple[int, ...]:
        """The sign."""
        return (self.sign,)

    def dense(self) -> Float[Tensor, "groups n n"]:
        """J as a matrix."""
        J = self.sign * self.values.unsqueeze(2) * self.values.unsqueeze(1)
        return J.masked_fill(torch.eye(self.num_spins, dtype=torch.bool, device=J.device), 0.0)

    def matvec(self, s: Float[Tensor, "groups n columns"]) -> Float[Tensor, "groups n columns"]:
        """Σ_k J_jk s_k, in O(n) a column."""
        U = self.values.unsqueeze(2)
        return self.sign * U * ((U * s).sum(1, keepdim=True) - U * s)

    def leading(self, num_spins: int) -> "LowRank":
        """The couplings among the first spins."""
        return LowRank(self.values[:, :num_spins], self.sign)

    def restricted(
        self, group: Int[Tensor, " models"], rows: Int[Tensor, "models spins"]
    ) -> "LowRank":
        """The couplings among some of the spins."""
        return LowRank(self.values[group[:, None], rows], self.sign)

    def scaled(self, beta: float | Tensor) -> "LowRank":
        """βJ: U times √β, which has no derivative in β at β = 0."""
        root = beta.sqrt() if isinstance(beta, Tensor) else beta**0.5
        return LowRank(self.values * beta_like(root, self.values), self.sign)
