r"""How many kicks an anneal needs for a stated error of its probabilities.

The error is the total variation ½ Σ_s |P(s) - P_exact(s)|. It is measured, in complex128, on trial
problems of the same size and strength, against a splitting refined until it stands still, and the
cheapest splitting is taken that keeps the worst of them below :data:`SAFETY` of the tolerance.
Trial problems are few, synthetic and fixed (fields alone, couplings alone, both; uniform ones
too where the batch is that coherent, because their errors add up in step), so the choice depends
on the size, the strength and the coherence of the problems and on the schedule, not on what was
sampled before, and can be remembered.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from qattn.simulators.schedules import AnnealSchedule
from qattn.simulators.splitting import Splitting, split
from qattn.simulators.statevector import evolve

SAFETY = 0.5
"""Fraction of the tolerance that the worst trial problem may use."""

LEAST_TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-10}
"""Tolerances below which the rounding of the state's dtype counts."""

TRIAL_SPINS = 8
"""Largest number of spins of a trial problem; larger problems are judged by trials of their total
strength on this many spins, which turn each spin harder."""

STRENGTH_STEP = 2**0.25
"""Strengths are rounded up to powers of this, so that few are tried."""

COHERENT = 0.55
"""Coherence from which on the uniform trial problems take part."""

ALWAYS_COHERENT = 4
"""Number of spins up to which they always do."""

MOST_KICKS = 1 << 16
"""Kicks at which the search gives up."""


def strength(h: Tensor, J: Tensor) -> Tensor:
    r"""Root of Σ_j h_j² + Σ_jk J_jk² of each problem: how hard its spins are turned."""
    return (h.square().sum(-1) + J.square().sum((-1, -2))).sqrt()


def coherence(h: Tensor, J: Tensor) -> Tensor:
    r"""How far each problem is from random: tr M⁴ / (tr M²)² with M = [[0, h], [h, J]].

    Invariant under gauge transformations. About 2/(n + 1) for Gaussian couplings, 1/2 for fields
    alone, near 1 for a uniform ferromagnet of many spins.
    """
    M = torch.nn.functional.pad(J, (0, 1, 0, 1))
    M[..., -1, :-1] = h
    M[..., :-1, -1] = h
    M2 = M @ M
    norm = M.square().sum((-1, -2))
    return M2.square().sum((-1, -2)) / norm.square().clamp_min(torch.finfo(M.dtype).tiny)


def choose_splitting(h: Tensor, J: Tensor, schedule: AnnealSchedule, tolerance: float) -> Splitting:
    """The cheapest splitting found whose error stays within a tolerance.

    Args:
        h: Programmed fields, shape (problems, n).
        J: Programmed couplings, shape (problems, n, n).
        schedule: The schedule.
        tolerance: Bound on the total variation of every problem, as measured on trial problems.

    Raises:
        RuntimeError: It would take more than :data:`MOST_KICKS` kicks.
    """
    n = h.shape[1]
    largest = max(float(strength(h, J).max()), 1e-6)
    coherent = n <= ALWAYS_COHERENT or float(coherence(h, J).max()) > COHERENT
    level = math.ceil(math.log(largest, STRENGTH_STEP))
    return _choose(schedule, min(n, TRIAL_SPINS), level, coherent, tolerance)


@lru_cache(maxsize=512)
def _choose(
    schedule: AnnealSchedule, num_spins: int, level: int, coherent: bool, tolerance: float
) -> Splitting:
    h, J = _trials(num_spins, STRENGTH_STEP**level, coherent)
    goal = SAFETY * tolerance

    def probabilities(num_kicks: int, order: int) -> Tensor:
        return evolve(h, J, split(schedule, num_kicks, order))

    num_kicks = max(4, math.ceil(float(schedule.phase(0.0)) / 8))
    reference = probabilities(num_kicks, 4)
    error = math.inf
    while error > goal / 10:
        num_kicks *= 2
        if 3 * num_kicks > MOST_KICKS:
            raise RuntimeError(
                f"An anneal of {schedule.annealing_time:g} ns with schedule {schedule.name!r} "
                f"needs more than {MOST_KICKS} kicks for a total variation of {tolerance:g}: "
                f"shorten the anneal or raise the tolerance."
            )
        coarser, reference = reference, probabilities(num_kicks, 4)
        error = _distance(coarser, reference)
    best, most = split(schedule, num_kicks, 4), num_kicks
    for order in (4, 2):

        def error_of(kicks: int, order: int = order) -> float:
            return _distance(probabilities(kicks, order), reference)

        kicks = _fewest(error_of, goal, most)
        if kicks is not None:
            best = split(schedule, kicks, order)
        most = best.num_kicks - 1
    return best


def _fewest(error: Callable[[int], float], goal: float, most: int) -> int | None:
    """About the smallest number of kicks with an error within the goal, there and a little on."""
    kicks, failed, found = 4, 0, None
    while kicks <= most:
        if error(kicks) > goal:
            failed, found = kicks, None
        elif found is not None:
            break
        else:
            found = kicks
        kicks = math.ceil(1.15 * kicks)
    while found is not None and found - failed > max(1, 0.03 * found):
        middle = (found + failed) // 2
        if error(middle) > goal:
            failed = middle
        else:
            found = middle
    return found


def _distance(p: Tensor, q: Tensor) -> float:
    """Largest total variation over the problems."""
    return float((p - q).abs().sum(1).max()) / 2


def _trials(num_spins: int, wanted: float, coherent: bool) -> tuple[Tensor, Tensor]:
    """Fields alone, couplings alone and both: Gaussian, or uniform as well."""
    n = num_spins
    generator = torch.Generator().manual_seed(n)
    draws = 2 if n > ALWAYS_COHERENT else 8
    fields = torch.randn(draws, n, generator=generator, dtype=torch.float64)
    couplings = torch.randn(draws, n, n, generator=generator, dtype=torch.float64)
    if coherent:
        fields = torch.cat([fields, -torch.ones(1, n, dtype=torch.float64)])
        couplings = torch.cat([couplings, -torch.ones(1, n, n, dtype=torch.float64)])
    h, J = fields, couplings.triu(1)
    J = (J + J.mT) / math.sqrt(n)
    h, J = torch.cat([h, h * 0, h]), torch.cat([J * 0, J, J])
    scale = wanted / strength(h, J).clamp_min(1e-12)
    return h * scale[:, None], J * scale[:, None, None]
