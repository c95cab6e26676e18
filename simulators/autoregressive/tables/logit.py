"""The logit of the core by look-up, from truncated elimination."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from qattn.exact import bucket_tree
from qattn.ising.batch import IsingBatch
from qattn.simulators.autoregressive.conditional import Conditional
from qattn.simulators.autoregressive.models import Models
from qattn.simulators.autoregressive.plan import Plan
from qattn.simulators.autoregressive.settings import NetSettings
from qattn.simulators.autoregressive.tables.exact import (
    MAX_ENTRIES,
    exact_elimination,
    problems,
)
from qattn.simulators.autoregressive.tables.lookup import Bits, Lookup
from qattn.simulators.autoregressive.tables.truncated import Truncated, truncated

STRENGTH = 2.0
"""Root of the mean of Σ_j J_ij² at which the spins of the tables are chosen."""

GROUPS = 8
"""Groups that are looked at to choose them."""


class TruncatedTables(Conditional):
    r"""ℓ_i = T_i(K_i) + Σ_d c_id s_d: a table of the kept spins of the scope, linear in the others.

    What is kept is chosen for the couplings of a batch, at a strength of their own, so that it is
    the same for every β and all fields.

    Args:
        plan: The order of drawing.
        batch: Models whose couplings the tables are made for.
        width: Largest number of spins in a table.
        parameters: What can be fitted, for all groups and queries alike: nothing; a factor of T and
            one of c ("scalars"); or such factors of each position, and a term 2β Σ_j A_ij s_j over
            the scope, A starting at 0 ("couplings").
    """

    def __init__(
        self,
        plan: Plan,
        batch: IsingBatch,
        width: int,
        parameters: Literal["none", "scalars", "couplings"] = "none",
    ) -> None:
        super().__init__()
        self.plan, self.width, core = plan, width, plan.num_core
        self.elimination = exact_elimination(plan)
        self.adjacency: Bool[Tensor, "core core"] = (
            (batch.matrix != 0).any(0).cpu()[plan.index][:core, plan.index[:core]]
        )
        self.kept: list[tuple[int, ...]] | None = None
        J = batch.matrix[:GROUPS].detach()
        J = J * (
            STRENGTH / J.square().sum((1, 2), keepdim=True).div(J.shape[1]).sqrt().clamp_min(1e-30)
        )
        models = Models.arranged(IsingBatch(J.new_zeros(len(J), 1, len(plan.order)), J), plan)
        found = self._eliminated(*next(problems(models, core << width)))
        self.kept = found.kept
        self.lookup = Lookup(found.kept, plan.num_spins)
        most = max(map(len, found.others), default=0)
        rows = [list(others) + [0] * (most - len(others)) for others in found.others]
        self.num_others = [len(others) for others in found.others]
        others = torch.tensor(rows, dtype=torch.int64).view(core, most)
        self.register_buffer("others", others, persistent=False)
        self.factors: nn.Parameter | None = None
        self.terms: nn.Parameter | None = None
        if parameters != "none":
            self.factors = nn.Parameter(torch.ones(2, core if parameters == "couplings" else 1, 1))
        if parameters == "couplings":
            self.terms = nn.Parameter(torch.zeros(sum(map(len, plan.scopes[:core]))))
        self._last: tuple[Models, tuple[Tensor, Tensor]] | None = None

    @classmethod
    def of_settings(cls, settings: NetSettings, plan: Plan, batch: IsingBatch) -> "TruncatedTables":
        """Tables of the width that is set, or of the largest for which those of all queries fit."""
        share = MAX_ENTRIES // max(1, plan.num_core * batch.num_groups * batch.num_queries)
        width = min(settings.table_width, max(1, share).bit_length() - 1)
        return cls(plan, batch, width, settings.parameters)

    def begin(self, models: Models, num_reads: int) -> "_State":
        """Tables of the models, and no spins yet."""
        return _State(models, *self.of_models(models), Bits(models.to_columns(models.h, num_reads)))

    def logits(self, state: "_State", level: slice, spins: Tensor) -> Tensor:
        """Look up a level."""
        state.bits.learn(spins, level.start)
        rows = torch.arange(level.start, level.stop, device=spins.device)
        return self._logits(state, rows, spins)

    def of_states(self, models: Models, spins: Tensor, positions: Int[Tensor, " chosen"]) -> Tensor:
        """Look up all positions at once."""
        state = _State(models, *self.of_models(models), Bits(spins))
        state.bits.learn(spins, self.plan.num_core)
        return self._logits(state, positions, spins)

    @torch.no_grad()
    def of_models(
        self, models: Models
    ) -> tuple[Float[Tensor, "g q entries"], Float[Tensor, "g q core others"]]:
        """Tables and coefficients of all queries; those of the last models are kept.

        Raises:
            MemoryError: They need more than ``qattn.exact.memory.MEMORY_LIMIT``.
        """
        if self._last is not None and self._last[0] is models:
            return self._last[1]
        g, _, q = models.h.shape
        most = self.others.shape[1]
        tables, linear = [], []
        for h, J in problems(models, self.lookup.num_entries):
            found = self._eliminated(h, J)
            tables.append(torch.cat(found.tables, 1).to(models.h.dtype))
            rows = [nn.functional.pad(c, (0, most - c.shape[1])) for c in found.linear]
            linear.append(torch.stack(rows, 1).to(models.h.dtype))
        values = torch.cat(tables).unflatten(0, (g, q)), torch.cat(linear).unflatten(0, (g, q))
        self._last = models, values
        return values

    def _eliminated(self, h: Tensor, J: Tensor) -> Truncated:
        """Exact spins, then the core."""
        core = self.plan.num_core
        below = bucket_tree.eliminate(h, J, self.elimination, readout=lambda logit: logit[:, :0])
        linked = [set(row.nonzero().flatten().tolist()) for row in self.adjacency]
        f, P = h[:, :core].clone(), J[:, :core, :core].clone()
        return truncated(f, P, below.messages, linked, self.width, self.kept)

    def _logits(self, state: "_State", rows: Tensor, spins: Tensor) -> Tensor:
        table = self.lookup(state.tables, state.bits.values, rows)
        most = max((self.num_others[row] for row in rows.tolist()), default=0)
        # Sums over the other spins, a query's coefficients for all of its reads.
        others = spins[:, self.others[rows, :most]].unflatten(3, (state.tables.shape[1], -1))
        linear = torch.einsum("gqrd,grdqc->grqc", state.linear[:, :, rows, :most], others)
        linear = linear.flatten(2)
        if self.factors is None:
            return table + linear
        a, b = self.factors[:, rows] if self.factors.shape[1] > 1 else self.factors
        logit = a * table + b * linear
        if self.terms is not None:
            mask = self.plan.mask[: self.plan.num_core].to(spins.device)
            A = self.terms.new_zeros(mask.shape).masked_scatter(mask, self.terms)
            beta = state.models.beta.view(-1, 1, 1)
            logit = logit + 2 * beta * (A[rows] @ spins)
        return logit


class _State:
    """Tables, coefficients and bits of the models that are drawn."""

    def __init__(self, models: Models, tables: Tensor, linear: Tensor, bits: Bits) -> None:
        self.models, self.tables, self.linear, self.bits = models, tables, linear, bits
