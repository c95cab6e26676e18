r"""An autoregressive sampler: draws with ln q, and ln q of given states.

The way of a draw: the models' spins in the plan's order (:class:`Models`); for each level the sum
of the parts' logits, or a look-up where spins are drawn exactly; a spin where a uniform number is
below σ(ℓ); ln q += ln σ(s ℓ) in float64. The ln q that is returned belongs to the logits that the
draw used, so that weights e^(-βE)/q are unbiased whatever their rounding.
"""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from qattn.ising.batch import IsingBatch
from qattn.simulators.autoregressive.conditional import Conditional
from qattn.simulators.autoregressive.models import Models
from qattn.simulators.autoregressive.plan import Plan
from qattn.simulators.autoregressive.tables import Tables


class AutoregressiveNet(nn.Module):
    r"""q(s) = Π_i σ(s_i ℓ_i(s_{<i})), the logits a sum of parts.

    Args:
        plan: The order of drawing.
        parts: Parts of the logits. Where the plan draws spins exactly, they are not asked for
            those, nor told of them.

    Attributes:
        exact: The exact logits of the plan's last spins.
    """

    def __init__(self, plan: Plan, parts: Sequence[Conditional]) -> None:
        super().__init__()
        self.plan = plan
        self.parts = nn.ModuleList(parts)
        self.exact = Tables(plan)

    def arranged(self, batch: IsingBatch) -> Models:
        """The models of a batch in the order of drawing, float32 or as the parameters are."""
        dtype = next((p.dtype for p in self.parameters()), torch.float32)
        return Models.arranged(batch, self.plan, dtype)

    @torch.no_grad()
    def draw(
        self, models: Models, num_reads: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "g n columns"], Float[Tensor, "g columns"]]:
        """Draw reads of every query.

        Args:
            models: The models, arranged.
            num_reads: Reads of each query.
            generator: Source of the uniform numbers, on the device of the models.

        Returns:
            States in the order of drawing, 0 at absent spins, and ln q of each, float64.
        """
        core, exact = self._sources()
        if len(core) == 1 and self.plan.num_core == self.plan.num_spins:
            found = core[0].draw_all(models, num_reads, generator)
            if found is not None:
                return found
        g, n, q = models.h.shape
        spins = models.h.new_zeros(g, n, q * num_reads)
        log_q = torch.zeros(g, q * num_reads, dtype=torch.float64, device=spins.device)
        active = None
        if models.active is not None:
            active = models.to_columns(models.active, num_reads)
        states = {part: part.begin(models, num_reads) for part in core + exact}
        for level in self.plan.levels:
            parts = core if level.start < self.plan.num_core else exact
            logit = self._sum([part.logits(states[part], level, spins) for part in parts])
            u = torch.rand(logit.shape, generator=generator, dtype=logit.dtype, device=logit.device)
            drawn = torch.where(u < torch.sigmoid(logit), 1.0, -1.0).to(logit.dtype)
            if active is not None:
                drawn = drawn * active[:, level]
            spins[:, level] = drawn
            log_q += _log_q(logit, drawn)
            for part in parts:
                part.drawn(states[part], level, spins)
        return spins, log_q

    def log_q(
        self,
        models: Models,
        spins: Float[Tensor, "g n columns"],
        positions: Tensor | None = None,
    ) -> Float[Tensor, "g columns"]:
        """ln q of states, float64, differentiable in the parameters.

        Args:
            models: The models, arranged.
            spins: States in the order of drawing, 0 at absent spins.
            positions: Positions whose conditionals are taken; None means all.
        """
        if positions is None:
            positions = torch.arange(self.plan.num_spins, device=spins.device)
        is_core = positions < self.plan.num_core
        asked = zip(self._sources(), (positions[is_core], positions[~is_core]), strict=True)
        logits = [
            self._sum([part.of_states(models, spins, chosen) for part in parts])
            for parts, chosen in asked
            if len(chosen)
        ]
        logit = torch.cat(logits, 1) if logits else spins[:, :0]
        return _log_q(logit, spins[:, positions])

    def _sources(self) -> tuple[list[Conditional], list[Conditional]]:
        """What the logits of the core are the sum of, and those of exact spins."""
        core = cast(list[Conditional], list(self.parts)) if self.plan.num_core else []
        return core, [self.exact]

    @staticmethod
    def _sum(logits: list[Tensor]) -> Tensor:
        return logits[0] if len(logits) == 1 else torch.stack(logits).sum(0)


def _log_q(logit: Tensor, spins: Tensor) -> Tensor:
    """Σ ln σ(s ℓ) over positions; an absent spin, 0, counts nothing."""
    return (logsigmoid(logit * spins) * spins.abs()).sum(1, dtype=torch.float64)
