r"""The linear net of two-body interactions, in the form of its published runs.

Biazzo, Wu and Carleo, Mach. Learn.: Sci. Technol. 5, 025074 (2024):

.. math:: \ell_i = \beta w_{ii} \xi_{ii} + \sum_{l > i} w_{il} \xi_{il}, \qquad
          \xi_{il} = h_l + \sum_{j < i} J_{jl} s_j \quad (h_l \text{ only where } l = i),

with w_ii = 2 at the start and w_il a hundredth over √n: the field of the spins that are drawn, and
a learnt share of theirs on spins that are not. Their biases, which break the symmetry of all signs,
are left out. In the order of rows (``NetSettings(order="natural")``) it is theirs; spins that the
conditional of i cannot depend on are left out in any order.
"""

import math

import torch
from torch import Tensor, nn

from qattn.simulators.autoregressive import Conditional, Models, Plan


class _State:
    """Fields of the spins that are drawn on all positions."""

    def __init__(self, models: Models, num_reads: int) -> None:
        self.models, self.num_reads = models, num_reads
        self.field = models.J.new_zeros(*models.h.shape[:2], models.h.shape[2] * num_reads)


class TwoBody(Conditional):
    """See the module.

    Args:
        plan: The order of drawing.
        generator: Source of the weights at the start.
    """

    def __init__(self, plan: Plan, generator: torch.Generator) -> None:
        super().__init__()
        n = plan.num_spins
        # w_il only where position l is drawn after i and depends on it, however indirectly.
        depends = torch.eye(n, dtype=torch.bool)
        for position, scope in enumerate(plan.scopes):
            if scope:
                # Scopes are chains of ancestors: all of them, and so those of the nearest.
                depends[position] |= depends[max(scope)] | plan.mask[position]
        self.register_buffer("mask", depends.mT & ~torch.eye(n, dtype=torch.bool))
        small = 0.01 / math.sqrt(n) * torch.randn(n, n, generator=generator)
        self.skip = nn.Parameter(2 + small.diagonal().clone())
        self.weight = nn.Parameter(small * self.mask)

    def begin(self, models: Models, num_reads: int) -> _State:
        """No field yet."""
        return _State(models, num_reads)

    def drawn(self, state: _State, level: slice, spins: Tensor) -> None:
        """Add the field of a level."""
        state.field.baddbmm_(state.models.J[:, :, level], spins[:, level])

    def logits(self, state: _State, level: slice, spins: Tensor) -> Tensor:
        """Logits of a level."""
        models = state.models
        own = state.field[:, level] + models.to_columns(models.h, state.num_reads)[:, level]
        # The fields hold β; the weights of the others belong to fields without it.
        others = (self.weight * self.mask)[level] @ state.field / models.beta[:, None, None]
        return self.skip[level, None] * own + others

    def of_states(self, models: Models, spins: Tensor, positions: Tensor) -> Tensor:
        """Logits of some positions: Σ_j s_j Σ_l J_jl w_il over the spins j before each."""
        own = models.to_columns(models.h, spins.shape[2] // models.num_queries)[:, positions]
        before = torch.arange(models.num_spins) < positions[:, None]
        weight = (self.weight * self.mask)[positions] @ models.J / models.beta[:, None, None]
        skip = self.skip[positions, None]
        return skip * own + ((weight + skip * models.J[:, positions]) * before) @ spins
