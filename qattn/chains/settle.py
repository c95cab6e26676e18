"""Chains that are swept, and tempered where that is too slow, until they are in equilibrium."""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Int8
from torch import Tensor

from qattn.chains.equilibrium import Doubling, equilibrium, warn_of
from qattn.chains.sweeps import Chains
from qattn.chains.tempering import Tempering
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples

LEAST_CHAINS = 32
"""Chains of a query from which on two groups of them can be compared."""

PLAIN_SWEEPS = 160
"""Sweeps by which chains must agree; beyond, tempering (of about 6 temperatures) is shorter."""

ADAPTATIONS = (10, 20, 40)
"""Sweeps before each adaptation of the ladder."""

FIRST_TEMPERED = 20
"""Sweeps over the adapted ladder before the first test."""

ROUND_TRIPS = 5
"""Round trips that the sets of every query must have made on average, over the adapted ladder."""

SLICE_ELEMENTS = 1 << 25
"""Spins that are tempered at a time, if there are :data:`EXPECTED_TEMPERATURES`."""

EXPECTED_TEMPERATURES = 8


@dataclass(eq=False)
class Settled:
    """Chains in equilibrium, or as near to it as they got.

    Attributes:
        spins: Configurations at the target β, one a chain.
        num_sweeps: Sweeps at the target β before any tempering.
        tempered: Problems that went on by tempering.
        tempering_sweeps: The most sweeps of a replica, those of the adaptations included.
        temperatures: The most temperatures of a ladder.
        round_trips: Mean round trips of the sets of the query with the fewest.
        doubtful: (group, query) of the problems that did not settle, those that fail the test by
            themselves first.
        statistic: The test of the worst of them, in words.
    """

    spins: Int8[Tensor, "g q chains n"]
    num_sweeps: int = 0
    tempered: int = 0
    tempering_sweeps: int = 0
    temperatures: int = 0
    round_trips: float = float("inf")
    doubtful: list[tuple[int, int]] = field(default_factory=list)
    statistic: str = ""


def enough_chains(num_reads: int) -> int:
    """Chains to run for so many reads: an even number, and enough for the test."""
    return max(num_reads + num_reads % 2, LEAST_CHAINS)


def opposite_starts(batch: IsingBatch, num_chains: int) -> Int8[Tensor, "g q chains n"]:
    """All spins up and all spins down in turns; 0 at absent spins."""
    G, Q, n = batch.h.shape
    signs = 1 - 2 * (torch.arange(num_chains, device=batch.h.device) % 2)
    starts = batch.active.expand(G, Q, n).unsqueeze(2) * signs[:, None]
    return starts.to(torch.int8)


@torch.no_grad()
def settle(
    batch: IsingBatch, num_chains: int, *, max_sweeps: int, generator: torch.Generator
) -> Settled:
    """Sweep chains from opposite starts until two groups of them agree: see :class:`Doubling`.

    Groups of queries that do not agree after :data:`PLAIN_SWEEPS` are tempered, from where their
    chains are, until the chains agree, still do after as many sweeps again, and configurations
    have made :data:`ROUND_TRIPS`.

    Args:
        batch: The models.
        num_chains: Chains of each query, at least :data:`LEAST_CHAINS`.
        max_sweeps: Sweeps, and sweeps of a replica, by which chains must agree.
        generator: Source of all randomness, on the device of the batch.

    Warns:
        EquilibriumWarning: Some problems did not pass the test.
    """
    h, J = batch.scaled()
    models = IsingBatch(h.detach(), J.detach(), batch.lengths, validate=False)
    result = Settled(opposite_starts(models, num_chains))
    slow = _sweep(models, result, min(PLAIN_SWEEPS, max_sweeps), generator)
    if slow:
        step = SLICE_ELEMENTS // (EXPECTED_TEMPERATURES * num_chains * models.num_spins)
        for groups, queries in _slices(slow, models.num_queries, max(1, step)):
            _temper(models, result, groups, queries, max_sweeps, generator)
    if result.doubtful:
        warn_of(
            result.doubtful,
            f"after {result.num_sweeps} sweeps and {result.tempering_sweeps} of parallel tempering "
            f"({result.statistic}): raise max_sweeps, or weaken the couplings.",
        )
    return result


def _sweep(
    models: IsingBatch, result: Settled, max_sweeps: int, generator: torch.Generator
) -> list[int]:
    """Sweep until the chains agree; returns the groups of queries that did not settle."""
    chains, rule = Chains(models, result.spins), Doubling(max_sweeps)
    while rule.next_sweeps:
        chains.sweep(rule.next_sweeps, generator)
        result.spins = chains.spins
        test = equilibrium(SpinSamples(result.spins), models)
        rule.record(test)
    result.num_sweeps = rule.sweeps
    if rule.passed:
        return []
    everywhere = list(range(models.num_groups))
    slow = [g for g in everywhere if not test[[g]].groups_agree]
    rest = [g for g in everywhere if g not in set(slow)]
    if not rest or not test[rest].groups_agree:
        return everywhere
    # The others agree without the slow ones: they are swept as often again, and tested anew.
    others = _part(models, rest)
    chains = Chains(others, result.spins[rest])
    chains.sweep(rule.sweeps, generator)
    result.spins[rest] = chains.spins
    result.num_sweeps *= 2
    test = equilibrium(SpinSamples(chains.spins), others)
    again = [g for i, g in enumerate(rest) if not test[[i]].groups_agree]
    return sorted(slow + again) if test.groups_agree or again else everywhere


def _temper(
    models: IsingBatch,
    result: Settled,
    groups: list[int],
    queries: slice,
    max_sweeps: int,
    generator: torch.Generator,
) -> None:
    """Temper a slice of the problems until they are in equilibrium."""
    part = _part(models, groups, queries)
    tempering = Tempering(part, result.spins[groups, queries], generator)
    for sweeps in ADAPTATIONS:
        tempering.adapt(sweeps)
    rule = Doubling(max_sweeps, first=FIRST_TEMPERED)
    while rule.next_sweeps:
        tempering.run(rule.next_sweeps)
        spins = tempering.spins
        test = equilibrium(SpinSamples(spins), part)
        trips = float(tempering.round_trips.mean(-1).min())
        rule.record(test, complete=trips >= ROUND_TRIPS)
    result.spins[groups, queries] = spins
    result.tempered += part.num_groups * part.num_queries
    result.tempering_sweeps = max(result.tempering_sweeps, sum(ADAPTATIONS) + rule.sweeps)
    result.temperatures = max(result.temperatures, tempering.num_temperatures)
    result.round_trips = min(result.round_trips, trips)
    if not rule.passed:
        first = queries.start or 0
        suspects = test.suspects or list(np.ndindex(part.num_groups, part.num_queries))
        result.doubtful += [(groups[g], first + q) for g, q in suspects]
        result.statistic = f"{test}; {trips:.1f} round trips"


def _slices(groups: list[int], num_queries: int, size: int) -> list[tuple[list[int], slice]]:
    """Groups and slices of queries with at most `size` problems together, of one at least."""
    per_slice, queries = max(1, size // num_queries), min(size, num_queries)
    return [
        (groups[i : i + per_slice], slice(start, min(start + queries, num_queries)))
        for i in range(0, len(groups), per_slice)
        for start in range(0, num_queries, queries)
    ]


def _part(models: IsingBatch, groups: list[int], queries: slice = slice(None)) -> IsingBatch:
    """Some of the problems of a batch at β = 1."""
    lengths = models.lengths
    if lengths is not None:
        lengths = lengths[queries] if lengths.ndim == 1 else lengths[groups, queries]
    return IsingBatch(models.h[groups, queries], models.J[groups], lengths, validate=False)
