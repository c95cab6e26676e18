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

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qattn.exact import bucket_tree, memory
from qattn.exact.elimination import Elimination
from qattn.simulators.autoregressive.conditional import Conditional
from qattn.simulators.autoregressive.models import Models
from qattn.simulators.autoregressive.plan import Plan
from qattn.simulators.autoregressive.tables.lookup import Bits, Lookup

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


def exact_elimination(plan: Plan) -> Elimination:
    """The exact spins from the last to the first, by position."""
    exact = range(plan.num_spins - 1, plan.num_core - 1, -1)
    # The spin of a scope that is eliminated next comes first.
    return Elimination(tuple(exact), tuple(plan.scopes[i][::-1] for i in exact))


def problems(
    models: Models, entries: int, dtype: torch.dtype = torch.float64
) -> Iterator[tuple[Float[Tensor, "problems n"], Float[Tensor, "problems n n"]]]:
    """Fields and couplings of the queries, few enough for the memory at a time.

    Args:
        models: The models.
        entries: Numbers in the tables of one.
        dtype: What they are computed in.

    Raises:
        MemoryError: The tables need more than ``qattn.exact.memory.MEMORY_LIMIT``.
    """
    g, n, q = models.h.shape
    chunk = min(g * q, max(1, CHUNK_ENTRIES // max(entries, n * n)))
    need = g * q * entries * models.h.element_size() + 4 * dtype.itemsize * chunk * entries
    if need > memory.MEMORY_LIMIT:
        raise MemoryError(
            f"Tables of conditionals need about {need / 2**30:.3g} GiB, and the limit is "
            f"{memory.MEMORY_LIMIT / 2**30:.3g} GiB: give fewer queries at once, a smaller "
            f"`exact_width` or `table_width`, or raise qattn.exact.memory.MEMORY_LIMIT."
        )
    for number in torch.arange(g * q, device=models.h.device).split(chunk):
        group, query = number // q, number % q
        h, J = models.h[group, :, query].to(dtype), models.J[group].to(dtype)
        if models.active is not None:
            # An absent spin is a free one.
            there = models.active[group, :, query].to(dtype)
            J = J * there.unsqueeze(1) * there.unsqueeze(2)
        yield h, J


class Tables(Conditional):
    """Logits of the spins that a plan draws exactly; it is not asked for others.

    Args:
        plan: The order of drawing.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.first = plan.num_core
        self.elimination = exact_elimination(plan)
        self.lookup = Lookup(self.elimination.scopes[::-1], plan.num_spins)
        self._last: tuple[Models, Tensor] | None = None

    def begin(self, models: Models, num_reads: int) -> tuple[Tensor, Bits]:
        """The tables of the models, and no spins yet."""
        return self.of_models(models), Bits(models.to_columns(models.h, num_reads))

    def logits(self, state: tuple[Tensor, Bits], level: slice, spins: Tensor) -> Tensor:
        """Look up a level."""
        tables, bits = state
        rows = torch.arange(level.start, level.stop, device=spins.device) - self.first
        found: Tensor = self.lookup(tables, bits.learn(spins, level.start), rows)
        return found

    def of_states(self, models: Models, spins: Tensor, positions: Int[Tensor, " chosen"]) -> Tensor:
        """Look up all positions at once."""
        bits = Bits(spins).learn(spins, models.num_spins)
        found: Tensor = self.lookup(self.of_models(models), bits, positions - self.first)
        return found

    @torch.no_grad()
    def of_models(self, models: Models) -> Float[Tensor, "g q entries"]:
        """The tables of all queries, spin after spin; those of the last models are kept.

        Raises:
            MemoryError: They need more than ``qattn.exact.memory.MEMORY_LIMIT``.
        """
        if self._last is not None and self._last[0] is models:
            return self._last[1]
        g, _, q = models.h.shape
        found = [models.h.new_zeros(g * q, 0)]
        if self.elimination.order:
            found = [
                torch.cat(self._tables(h, J)[::-1], 1).to(models.h.dtype)
                for h, J in problems(models, self.elimination.num_entries)
            ]
        tables = torch.cat(found).view(g, q, self.lookup.num_entries)
        self._last = models, tables
        return tables

    def _tables(self, h: Tensor, J: Tensor) -> list[Tensor]:
        return bucket_tree.eliminate(h, J, self.elimination, readout=lambda logit: logit).up
