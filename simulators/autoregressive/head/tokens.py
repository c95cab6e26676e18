r"""What a position knows of itself before it attends to others.

Even under a change of all signs: an embedding of its own, its place, its level, the size of its
scope, the strength √(Σ_j (βJ_ij)²) of its couplings, and products of fields such as x tanh x. Odd:
its field βh_i, the field ξ_i = Σ_j βJ_ij s_j of the neighbours that are drawn, and tanh(βh_i + ξ_i).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from qattn.simulators.autoregressive.head.layer import matrix, times
from qattn.simulators.autoregressive.models import Models
from qattn.simulators.autoregressive.plan import Plan


class Tokens(nn.Module):
    """Streams of positions before the first layer; see the module."""

    place: Float[Tensor, "n 3"]

    def __init__(self, plan: Plan, width: int, generator: torch.Generator) -> None:
        super().__init__()
        n = plan.num_spins
        self.site = nn.Parameter(torch.randn(n, width, generator=generator))
        self.of_position = matrix(width, 4, generator)
        self.of_even = matrix(width, 3, generator)
        self.of_odd = matrix(width, 3, generator)
        levels = [d for d, level in enumerate(plan.levels) for _ in range(n)[level]]
        rows = zip(range(n), levels, map(len, plan.scopes), strict=True)
        place = torch.tensor(list(rows), dtype=torch.float32).reshape(n, 3) / max(1, n)
        self.register_buffer("place", place, persistent=False)

    def forward(
        self,
        models: Models,
        rows: slice,
        field: Float[Tensor, "g m reads"],
        strength: Float[Tensor, "g n q"],
    ) -> tuple[Float[Tensor, "m d c"], Float[Tensor, "m d c"]]:
        """The even and the odd stream of positions, columns of all groups side by side.

        Args:
            models: The models.
            rows: The positions.
            field: ξ at these positions.
            strength: Of all positions, from :func:`strength_of`.
        """
        reads = field.shape[2] // models.num_queries
        h = beside(models.to_columns(models.h[:, rows], reads))
        xi = beside(field)
        mean = (h + xi).tanh()
        odd = torch.stack([h, xi, mean], 1)
        even = torch.stack([h * h.tanh(), xi * xi.tanh(), (h + xi) * mean], 1)
        # What has no read in it, once for each query.
        strength = beside(strength[:, rows]).unsqueeze(1)
        place = self.place[rows].unsqueeze(2).expand(-1, -1, strength.shape[2])
        fixed = self.site[rows].unsqueeze(2)
        fixed = fixed + times(self.of_position, torch.cat([place, strength], 1))
        fixed = fixed.repeat_interleave(reads, 2)
        return fixed + times(self.of_even, even), times(self.of_odd, odd)


def beside(x: Float[Tensor, "g m c"]) -> Float[Tensor, "m columns"]:
    """Columns of all groups side by side."""
    return x.transpose(0, 1).flatten(1)


def strength_of(models: Models) -> Float[Tensor, "g n q"]:
    """√(Σ_j (βJ_ij)²) over the spins that a query has."""
    squared = models.J.square()
    if models.active is None:
        return squared.sum(2, keepdim=True).sqrt().expand(models.h.shape)
    return (squared @ models.active.to(squared.dtype)).sqrt()
