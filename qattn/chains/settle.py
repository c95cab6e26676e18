"""Chains that are swept, and tempered where that is too slow, until they are in equilibrium."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Int, Int8
from torch import Tensor

from qattn.chains.equilibrium import LEVEL, Doubling, Equilibrium, equilibrium
from qattn.chains.neighbours import sweepable
from qattn.chains.sweeps import Chains
from qattn.chains.tempering import Moves, Tempering
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples

LEAST_CHAINS = 32
"""Chains of a query from which on two groups of them can be compared."""

PLAIN_SWEEPS = 160
"""Sweeps by which chains must agree; beyond, tempering (of about 6 temperatures) is shorter."""

CHOSEN_LEVEL = 0.05
"""Problems whose test is as improbable may be tempered, if the others agree without them."""

LARGEST_SHARE = 0.1
"""Share of slow problems, in groups of few, beyond which all of them are tempered."""

JUDGED_TOGETHER = 16
"""Number of problems below which a group is one of few."""

ADAPTATIONS = (10, 20, 40)
"""Sweeps before each adaptation of the ladder."""

ADAPTING_SETS = 32
"""Sets on which the ladder is adapted."""

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
        tempering_sweeps: The most sweeps of a replica.
        temperatures: The most temperatures of a ladder.
        round_trips: Mean round trips of the sets of the query with the fewest.
        doubtful: (group, query) of the problems that did not settle, those that fail the test by
            themselves first.
        statistic: The test of the worst of them, in words.
        test: The test of all chains, where they are.
    """

    spins: Int8[Tensor, "g q chains n"]
    num_sweeps: int = 0
    tempered: int = 0
    tempering_sweeps: int = 0
    temperatures: int = 0
    round_trips: float = float("inf")
    doubtful: list[tuple[int, int]] = field(default_factory=list)
    statistic: str = ""
    test: Equilibrium | None = None


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
    batch: IsingBatch,
    num_chains: int,
    *,
    max_sweeps: int,
    generator: torch.Generator,
    moves: Callable[[IsingBatch], Moves] | None = None,
) -> Settled:
    """Sweep chains from opposite starts until two groups of them agree: see :class:`Doubling`.

    Problems that do not agree after :data:`PLAIN_SWEEPS` are tempered, from where their chains are,
    until configurations have made :data:`ROUND_TRIPS` and the chains agree.

    Args:
        batch: The models.
        num_chains: Chains of each query, at least :data:`LEAST_CHAINS`.
        max_sweeps: Sweeps, and sweeps of a replica, by which chains must agree.
        generator: Source of all randomness, on the device of the batch.
        moves: What else moves the replicas of models that are tempered; None means nothing.
    """
    models = sweepable(batch)
    result = Settled(opposite_starts(models, num_chains))
    slow = _sweep(models, result, min(PLAIN_SWEEPS, max_sweeps), generator)
    size = SLICE_ELEMENTS // (EXPECTED_TEMPERATURES * num_chains * models.num_spins)
    for problems in _together(slow):
        for part in problems.to(models.h.device).split(max(1, size)):
            _temper(models, result, part, max_sweeps, generator, moves)
    if result.tempered:
        result.test = equilibrium(SpinSamples(result.spins), models)
    return result


def _sweep(
    models: IsingBatch, result: Settled, max_sweeps: int, generator: torch.Generator
) -> Bool[Tensor, "g q"]:
    """Sweep until the chains agree; returns which problems did not settle."""
    chains, rule = Chains(models, result.spins), Doubling(max_sweeps)
    while rule.next_sweeps:
        chains.sweep(rule.next_sweeps, generator)
        result.spins = chains.spins
        test = equilibrium(SpinSamples(result.spins), models)
        rule.record(test)
    result.num_sweeps, result.test = rule.sweeps, test
    if rule.passed:
        return torch.zeros_like(test.z2, dtype=torch.bool)
    # The fewest of the worst without which the others agree; these are swept as often again.
    p = test.p_values
    for level in (LEVEL / p.numel(), CHOSEN_LEVEL):
        slow = _with_their_like(p < level)
        if not bool(slow.all()) and test[~slow].groups_agree:
            chains.sweep(rule.sweeps, generator)
            result.spins = chains.spins
            result.num_sweeps *= 2
            if equilibrium(SpinSamples(result.spins), models)[~slow].groups_agree:
                return slow
            break
    return torch.ones_like(slow)


def _with_their_like(slow: Bool[Tensor, "g q"]) -> Bool[Tensor, "g q"]:
    """All problems of a group with a slow one: its couplings set traps.

    Both halves of the chains of the others may be in the same trap, and then they agree. Groups of
    few problems are judged together: a few slow ones among many have couplings of their own.
    """
    if slow.shape[1] < JUDGED_TOGETHER:
        return slow | (slow.double().mean() > LARGEST_SHARE)
    return slow.any(1, keepdim=True).expand_as(slow)


def _together(slow: Bool[Tensor, "g q"]) -> list[Int[Tensor, "problems two"]]:
    """Problems, (group, query) each, that share a ladder's length: a group's, if it is large."""
    problems = slow.nonzero()
    if slow.shape[1] < JUDGED_TOGETHER:
        return [problems] if len(problems) else []
    return [problems[problems[:, 0] == g] for g in problems[:, 0].unique()]


def _temper(
    models: IsingBatch,
    result: Settled,
    problems: Int[Tensor, "problems two"],
    max_sweeps: int,
    generator: torch.Generator,
    moves: Callable[[IsingBatch], Moves] | None,
) -> None:
    """Temper some problems, (group, query) each, until they are in equilibrium."""
    g, q = problems.T
    # Problems of one group share its couplings; of several, each is a group.
    shared = bool((g == g[0]).all())
    dim = 0 if shared else 1
    lengths = None
    if models.lengths is not None:
        lengths = torch.from_numpy(models.num_active.copy())[g.cpu(), q.cpu()].unsqueeze(dim)
    J = models.J[g[:1] if shared else g]
    part = IsingBatch(models.h[g, q].unsqueeze(dim), J, lengths, validate=False)
    starts = result.spins[g, q].unsqueeze(dim)
    # The ladder is adapted on a few sets, and all of them then use it.
    of_part = None if moves is None else moves(part)
    tempering = Tempering(part, starts[:, :, :ADAPTING_SETS], generator, moves=of_part)
    for sweeps in ADAPTATIONS:
        tempering.adapt(sweeps)
    tempering = Tempering(part, starts, generator, tempering.betas, of_part)
    rule = Doubling(max_sweeps, first=FIRST_TEMPERED, confirm=False)  # round trips confirm
    while rule.next_sweeps:
        tempering.run(rule.next_sweeps)
        test = equilibrium(SpinSamples(tempering.spins), part)
        trips = float(tempering.round_trips.mean(-1).min())
        rule.record(test, progress=trips / ROUND_TRIPS)
    result.spins[g, q] = tempering.spins.squeeze(dim)
    result.tempered += len(problems)
    result.tempering_sweeps = max(result.tempering_sweeps, rule.sweeps)
    result.temperatures = max(result.temperatures, tempering.num_temperatures)
    result.round_trips = min(result.round_trips, trips)
    if not rule.passed:
        worst = [a + b for a, b in test.suspects] or range(len(problems))  # one of them is 0
        result.doubtful += [(int(g[i]), int(q[i])) for i in worst]
        result.statistic = f"{test}; {trips:.1f} round trips"
