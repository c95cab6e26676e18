r"""Exact conditionals of the spins that are drawn last, from tables.

Bucket elimination (:mod:`qattn.exact.bucket_tree`) of the spins below the *core* leaves of each of
them the exact logit as a function of its scope,

.. math:: \ell_i(S_i) = \ln \frac{p(s_i = +1 \mid S_i)}{p(s_i = -1 \mid S_i)},

2^|S_i| numbers that are computed once for a query; a draw looks one of them up. Whatever draws the
core, these spins add no error: q(s) = q(core) p(rest | core), so that

.. math:: \ln q(s) + \beta E(s) = \ln q(\text{core}) - \ln \sum_{\text{rest}} e^{-\beta E(s)}

does not depend on how the rest came out. Weights are those of the core alone, and a loss that is
made of them has less noise. Where all spins are exact, q is the Boltzmann distribution.
"""

from itertools import accumulate

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.exact import bucket_tree, memory
from qattn.exact.elimination import Elimination
from qattn.simulators.autoregressive.conditional import Conditional
from qattn.simulators.autoregressive.models import Models
from qattn.simulators.autoregressive.plan import Plan

CHUNK_ENTRIES = 1 << 22
"""Numbers in tables, or couplings, of queries that are eliminated side by side."""

MAX_ENTRIES = 1 << 25
"""Numbers in the tables of all queries for which :func:`narrowed` lets spins be drawn exactly."""


def num_entries(plan: Plan) -> int:
    """Numbers in the tables of one query."""
    return sum(1 << len(scope) for scope in plan.scopes[plan.num_core :])


def narrowed(plan: Plan, width: int, num_queries: int) -> Plan:
    """The plan with exact spins, of the largest width that needs no more than MAX_ENTRIES numbers.

    Args:
        plan: An order of drawing.
        width: The width that is wanted; what is taken may be less.
        num_queries: Queries of all groups, which have tables of their own.
    """
    found = (plan.with_exact(w) for w in range(width, -1, -1))
    return next(p for p in found if num_entries(p) * num_queries <= MAX_ENTRIES)


class Tables(Conditional):
    """Logits of the spins that a plan draws exactly; it is not asked for others.

    Args:
        plan: The order of drawing.
    """

    scope: Tensor
    start: Tensor

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        n = plan.num_spins
        self.first = plan.num_core
        # An elimination order: a scope begins with the spin that is eliminated next.
        exact = range(n - 1, self.first - 1, -1)
        scopes = [plan.scopes[i][::-1] for i in exact]
        self.elimination = Elimination(tuple(exact), tuple(scopes))
        # Scopes from the first exact spin on, behind places of no spin; where its table starts.
        width = self.elimination.width
        rows = [[n] * (width - len(scope)) + list(scope) for scope in reversed(scopes)]
        sizes = [1 << len(scope) for scope in reversed(scopes)]
        scope = torch.tensor(rows, dtype=torch.int64).view(len(rows), width)
        self.register_buffer("scope", scope, persistent=False)
        starts = list(accumulate(sizes, initial=0))[:-1]
        self.register_buffer("start", torch.tensor(starts, dtype=torch.int64), persistent=False)
        self._last: tuple[Models, Tensor] | None = None

    def begin(self, models: Models, num_reads: int) -> "_State":
        """The tables of the models."""
        return _State(models, self.of_models(models), num_reads)

    def logits(self, state: "_State", level: slice, spins: Tensor) -> Tensor:
        """Look up a level."""
        state.learn(spins, level.start)
        return self._looked_up(state, torch.arange(level.start, level.stop, device=spins.device))

    def of_states(self, models: Models, spins: Tensor, positions: Tensor) -> Tensor:
        """Look up all positions at once."""
        state = _State(models, self.of_models(models), spins.shape[2] // models.num_queries)
        state.learn(spins, models.num_spins)
        return self._looked_up(state, positions)

    def of_models(self, models: Models) -> Float[Tensor, "g q entries"]:
        """The tables of all queries, spin after spin; those of the last models are kept.

        Raises:
            MemoryError: They need more than ``qattn.exact.memory.MEMORY_LIMIT``.
        """
        if self._last is None or self._last[0] is not models:
            self._last = models, self._tables(models)
        return self._last[1]

    @torch.no_grad()
    def _tables(self, models: Models) -> Tensor:
        g, n, q = models.h.shape
        entries = self.elimination.num_entries
        if not entries:
            return models.h.new_zeros(g, q, 0)
        chunk = min(g * q, max(1, CHUNK_ENTRIES // max(entries, n * n)))
        self._check_memory(g * q * entries * models.h.element_size() + 32 * chunk * entries)
        found = []
        for number in torch.arange(g * q, device=models.h.device).split(chunk):
            group, query = number // q, number % q
            h, J = models.h[group, :, query].double(), models.J[group].double()
            if models.active is not None:
                # An absent spin is a free one.
                there = models.active[group, :, query].double()
                J = J * there.unsqueeze(1) * there.unsqueeze(2)
            tables = bucket_tree.eliminate(h, J, self.elimination, readout=lambda logit: logit).up
            found.append(torch.cat(tables[::-1], 1).to(models.h.dtype))
        return torch.cat(found).view(g, q, entries)

    def _looked_up(self, state: "_State", positions: Tensor) -> Tensor:
        """Logits of positions, whose scopes are drawn."""
        rows = positions - self.first
        scope = self.scope[rows]
        # Number of the entry, the first spin of a scope as its most significant bit.
        widest = int((scope < state.bits.shape[1] - 1).sum(1).max()) if len(rows) else 0
        entry = torch.zeros_like(state.bits[:, : len(rows)])
        for place in scope[:, scope.shape[1] - widest :].unbind(1):
            entry = torch.add(state.bits[:, place], entry, alpha=2)
        entry = entry.long() + self.start[rows].unsqueeze(1)
        g, size, columns = entry.shape
        q = state.tables.shape[1]
        of_query = entry.view(g, size, q, -1).transpose(1, 2).flatten(2)
        found = state.tables.gather(2, of_query).view(g, q, size, -1)
        return found.transpose(1, 2).reshape(g, size, columns)

    @staticmethod
    def _check_memory(need: int) -> None:
        if need > memory.MEMORY_LIMIT:
            raise MemoryError(
                f"Tables of exact conditionals need about {need / 2**30:.3g} GiB, and the limit is "
                f"{memory.MEMORY_LIMIT / 2**30:.3g} GiB: give fewer queries at once, a smaller "
                f"`exact_width`, or raise qattn.exact.memory.MEMORY_LIMIT."
            )


class _State:
    """Tables, and the spins drawn so far as bits; the last row is that of no spin."""

    def __init__(self, models: Models, tables: Tensor, num_reads: int) -> None:
        self.tables = tables
        columns = models.num_queries * num_reads
        self.bits = torch.zeros(
            models.num_groups,
            models.num_spins + 1,
            columns,
            dtype=torch.int32,
            device=tables.device,
        )
        self.known = 0

    def learn(self, spins: Tensor, stop: int) -> None:
        """Take over spins up to a position."""
        self.bits[:, self.known : stop] = spins[:, self.known : stop] > 0
        self.known = stop
