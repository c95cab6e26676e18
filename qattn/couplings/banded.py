"""Couplings between positions that are near to each other."""

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from qattn.couplings.base import Couplings, beta_like, check_values


class Banded(Couplings):
    r"""Couplings over distances up to the width w of a band.

    .. math:: J_{j,j-d} = J_{j-d,j} = \mathrm{values}_{j,d-1}, \qquad 1 \le d \le w

    Entries with j < d stand for no pair and are ignored. With w = 0 the spins are independent.

    Args:
        values: Shape (groups, n, w).

    >>> import torch
    >>> chain = Banded(torch.full((1, 3, 1), 0.5))  # three spins, neighbours coupled
    >>> chain.dense()
    tensor([[[0.0000, 0.5000, 0.0000],
             [0.5000, 0.0000, 0.5000],
             [0.0000, 0.5000, 0.0000]]])
    """

    kind: ClassVar[str] = "banded"

    def __init__(self, values: Float[Tensor, "groups n width"]) -> None:
        check_values("values", values, "(groups, n, width)", 3)
        self.values = values

    @classmethod
    def relative(cls, values: Float[Tensor, "groups width"], num_spins: int) -> "Banded":
        """Couplings that depend on the distance only: J_{j,j-d} = values[:, d - 1]."""
        return cls(values.unsqueeze(1).expand(-1, num_spins, -1))

    @property
    def num_spins(self) -> int:
        """Number of spins n."""
        return self.values.shape[1]

    @property
    def width(self) -> int:
        """The largest distance w over which spins are coupled."""
        return self.values.shape[2]

    def dense(self) -> Float[Tensor, "groups n n"]:
        """J as a matrix."""
        n = self.num_spins
        lower = self.values.new_zeros(self.num_groups, n, n)
        for d in range(1, min(self.width, n - 1) + 1):
            lower = lower + self.values[:, d:, d - 1].diag_embed(-d)
        return lower + lower.mT

    def matvec(self, s: Float[Tensor, "groups n columns"]) -> Float[Tensor, "groups n columns"]:
        """Σ_k J_jk s_k, in O(n w) a column."""
        n, width = self.num_spins, min(self.width, self.num_spins - 1)
        # No spins before the first and after the last.
        padded, total = F.pad(s, (0, 0, width, width)), s.new_zeros(self.num_groups, *s.shape[1:])
        for d in range(1, width + 1):
            # Spin j gets from j - d by J_{j,j-d}, and from j + d by J_{j+d,j}.
            before, after = self.values[:, :, d - 1], F.pad(self.values[:, d:, d - 1], (0, d))
            for J, start in ((before, width - d), (after, width + d)):
                total = torch.addcmul(total, J.unsqueeze(2), padded[:, start : start + n])
        return total

    def leading(self, num_spins: int) -> "Banded":
        """The couplings among the first spins."""
        return Banded(self.values[:, :num_spins])

    def restricted(
        self, group: Int[Tensor, " models"], rows: Int[Tensor, "models spins"]
    ) -> "Banded":
        """The couplings among some of the spins: none of them come to be further apart."""
        values, width = self.values, min(self.width, max(rows.shape[1] - 1, 0))
        found = values.new_zeros(*rows.shape, width)
        for d in range(1, width + 1):
            # The spin d places before stood at a distance of d at least, and of w if it is coupled.
            distance = rows[:, d:] - rows[:, :-d]
            coupled = (distance > 0) & (distance <= self.width)
            place = (distance - 1).clamp(0, self.width - 1)
            J = values[group[:, None], rows[:, d:], place]
            found[:, d:, d - 1] = torch.where(coupled, J, 0.0)
        return Banded(found)

    def equivalent(self, rows: Int[Tensor, "*shape spins"]) -> Int[Tensor, "*shape spins"] | None:
        """Rows from 0 on, at the same distances, of a band that is :meth:`relative`."""
        return rows - rows[..., :1] if self.values.stride(1) == 0 else None

    def scaled(self, beta: float | Tensor) -> "Banded":
        """βJ."""
        return Banded(self.values * beta_like(beta, self.values))
