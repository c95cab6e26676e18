r"""What a position knows before it attends to others.

Even under a change of all signs: an embedding of its own, its place in the order, its level, the
size of its scope, the strength √(Σ_j (βJ_ij)²) of its couplings, and products of fields such as
x tanh x. Odd: its field βh_i, the field ξ_i = Σ_j βJ_ij s_j of the neighbours that are drawn, and
tanh(βh_i + ξ_i).
"""

import torch
from jaxtyping import Float, Int, Shaped
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
        self.of_place = matrix(width, 3, generator)
        self.of_strength = matrix(width, 1, generator)
        self.of_even = matrix(width, 3, generator)
        self.of_odd = matrix(width, 3, generator)
        levels = [d for d, level in enumerate(plan.levels) for _ in range(n)[level]]
        rows = zip(range(n), levels, map(len, plan.scopes), strict=True)
        place = torch.tensor(list(rows), dtype=torch.float32).reshape(n, 3) / max(1, n)
        self.register_buffer("place", place, persistent=False)

    def sites(self) -> Float[Tensor, "n d"]:
        """What is known of positions whatever the models and the spins."""
        return self.site + self.place @ self.of_place.mT

    def forward(
        self,
        models: Models,
        rows: Int[Tensor, " m"],
        sites: Float[Tensor, "m d"],
        field: Float[Tensor, "m columns"],
    ) -> tuple[Float[Tensor, "m d columns"], Float[Tensor, "m d columns"]]:
        """The even and the odd stream of positions, columns of all groups side by side.

        Args:
            models: The models.
            rows: The positions.
            sites: Theirs of :meth:`sites`.
            field: ξ at these positions.
        """
        reads = field.shape[1] // beside(models.h[:, :1]).shape[1]
        h = beside(models.to_columns(models.h[:, rows], reads))
        mean = (h + field).tanh()
        odd = torch.stack([h, field, mean], 1)
        even = torch.stack([h * h.tanh(), field * field.tanh(), (h + field) * mean], 1)
        # Once for each query, then for its reads.
        strength = beside(_strength(models, rows)).unsqueeze(1)
        fixed = sites.unsqueeze(2) + times(self.of_strength, strength)
        fixed = fixed.repeat_interleave(reads, 2)
        return fixed + times(self.of_even, even), times(self.of_odd, odd)


def beside(x: Shaped[Tensor, "g m c"]) -> Shaped[Tensor, "m columns"]:
    """Columns of all groups side by side."""
    return x.transpose(0, 1).flatten(1)


def _strength(models: Models, rows: Tensor) -> Float[Tensor, "g m q"]:
    """√(Σ_j (βJ_ij)²) over the spins that a query has."""
    squared = models.J[:, rows].square()
    if models.active is None:
        return squared.sum(2, keepdim=True).sqrt().expand(-1, -1, models.num_queries)
    return (squared @ models.active.to(squared.dtype)).sqrt()
