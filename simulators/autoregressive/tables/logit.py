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
    CHUNK_ENTRIES,
    MAX_ENTRIES,
    exact_elimination,
    problems,
)
from qattn.simulators.autoregressive.tables.lookup import Bits, Lookup
from qattn.simulators.autoregressive.tables.truncated import Truncated, truncated

STRENGTH = 2.0
"""Root of Σ_j J_ij², on average over i, of the random couplings that choose the kept spins."""

EXAMPLES = 8
"""Problems with random couplings that are looked at."""


class TruncatedTables(Conditional):
    r"""ℓ_i = T_i(K_i) + Σ_d c_id s_d: a table of the kept spins of the scope, linear in the others.

    What is kept is chosen for couplings of random signs on the graph, and is the same whatever the
    couplings, fields and β are. (Chosen for the couplings themselves it would be somewhat better,
    as two more spins in the tables are.)

    Args:
        plan: The order of drawing.
        adjacency: Which spins are coupled, in the order of the models; symmetric.
        width: Largest number of spins in a table.
        parameters: What can be fitted, for all groups and queries alike: nothing; a factor of T and
            one of c ("scalars"); or such factors of each position, and a term 2β Σ_j A_ij s_j over
            the scope, A starting at 0 ("couplings").
    """

    others: Tensor

    def __init__(
        self,
        plan: Plan,
        adjacency: Bool[Tensor, "n n"],
        width: int,
        parameters: Literal["none", "scalars", "couplings"] = "none",
    ) -> None:
        super().__init__()
        self.plan, self.width, core = plan, width, plan.num_core
        self.elimination = exact_elimination(plan)
        graph = adjacency.cpu()[plan.index][:, plan.index]
        self.links = [set(row.nonzero().flatten().tolist()) for row in graph[:core, :core]]
        self.kept: list[tuple[int, ...]] | None = None
        found = self._eliminated(*next(problems(_examples(graph), core << width)))
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
        return cls(plan, (batch.matrix != 0).any(0), width, settings.parameters)

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
        linked = [set(links) for links in self.links]
        f, P = h[:, :core].clone(), J[:, :core, :core].clone()
        return truncated(f, P, below.messages, linked, self.width, self.kept)

    def _logits(self, state: "_State", rows: Tensor, spins: Tensor) -> Tensor:
        table: Tensor = self.lookup(state.tables, state.bits.values, rows)
        most = max((self.num_others[row] for row in rows.tolist()), default=0)
        # Sums over the other spins, a query's coefficients for all of its reads.
        others = spins[:, self.others[rows, :most]].unflatten(3, (state.tables.shape[1], -1))
        linear: Tensor = torch.einsum("gqrd,grdqc->grqc", state.linear[:, :, rows, :most], others)
        linear = linear.flatten(2)
        if self.factors is None:
            return table + linear
        a, b = self.factors[:, rows] if self.factors.shape[1] > 1 else self.factors
        logit: Tensor = a * table + b * linear
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


def _examples(graph: Bool[Tensor, "n n"]) -> Models:
    """Problems on a graph, with couplings of random signs."""
    n = len(graph)
    count = max(1, min(EXAMPLES, CHUNK_ENTRIES // n**2))
    generator = torch.Generator().manual_seed(0)
    signs = (2.0 * torch.randint(2, (count, n, n), generator=generator) - 1).triu(1)
    size = STRENGTH * (n / graph.sum().clamp_min(1)).sqrt()
    J = size * (signs + signs.mT) * graph
    return Models(J.new_zeros(count, n, 1), J, None, J.new_ones(count))
