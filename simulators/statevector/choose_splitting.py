r"""How many kicks an anneal needs for a stated error of its probabilities.

The error is the total variation ½ Σ_s |P(s) - P_exact(s)|. It is measured, in complex128, on trial
problems of the same size and strength, against a splitting refined until it has converged, and the
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
from qattn.simulators.statevector.evolution import evolve
from qattn.simulators.statevector.splitting import Splitting, split

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
"""Coherence above which the uniform trial problems take part."""

ALWAYS_COHERENT = 4
"""Number of spins up to which the uniform trial problems always take part."""

MAX_KICKS = 1 << 16
"""Number of kicks at which the search gives up."""


def strength(h: Tensor, J: Tensor) -> Tensor:
    r"""The strength sqrt(Σ_j h_j² + Σ_jk J_jk²) of each problem: how hard its spins are turned."""
    return (h.square().sum(-1) + J.square().sum((-1, -2))).sqrt()


def coherence(h: Tensor, J: Tensor) -> Tensor:
    r"""The coherence tr M⁴ / (tr M²)², M = [[0, h], [h, J]]: how far each problem is from random.

    Invariant under gauge transformations. About 2/(n + 1) for Gaussian couplings, 1/2 for fields
    alone, near 1 for a uniform ferromagnet of many spins.
    """
    # The fields as couplings to one more spin, the last row and column of M.
    M = torch.nn.functional.pad(J, (0, 1, 0, 1))
    M[..., -1, :-1] = h
    M[..., :-1, -1] = h
    M2 = M @ M
    # M is symmetric: tr M² and tr M⁴ are the squared norms of M and M².
    norm = M.square().sum((-1, -2))
    return M2.square().sum((-1, -2)) / norm.square().clamp_min(torch.finfo(M.dtype).tiny)


def choose_splitting(h: Tensor, J: Tensor, schedule: AnnealSchedule, tolerance: float) -> Splitting:
    """The cheapest splitting found whose error stays within a tolerance.

    Args:
        h: Programmed fields, shape (problems, n), in D-Wave's signs; only sizes count.
        J: Programmed couplings, shape (problems, n, n).
        schedule: The schedule.
        tolerance: Bound on the total variation of every problem, as measured on trial problems.

    Raises:
        RuntimeError: It would take more than :data:`MAX_KICKS` kicks.
    """
    n = h.shape[1]
    # What the choice depends on, rounded, so that calls with similar problems share one.
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

    # A reference that is ten times as exact as needed: twice the kicks until little changes.
    num_kicks = max(4, math.ceil(float(schedule.phase(0.0)) / 8))
    reference = probabilities(num_kicks, 4)
    error = math.inf
    while error > goal / 10:
        num_kicks *= 2
        if 3 * num_kicks > MAX_KICKS:
            raise RuntimeError(
                f"An anneal of {schedule.annealing_time:g} ns with schedule {schedule.name!r} "
                f"needs more than {MAX_KICKS} kicks for a total variation of {tolerance:g}: "
                f"shorten the anneal or raise the tolerance."
            )
        coarser, reference = reference, probabilities(num_kicks, 4)
        error = _distance(coarser, reference)
    # The cheapest at fourth order, then at second order if that takes fewer kicks in all.
    best, max_kicks = split(schedule, num_kicks, 4), num_kicks
    for order in (4, 2):

        def error_of(kicks: int, order: int = order) -> float:
            return _distance(probabilities(kicks, order), reference)

        kicks = _fewest(error_of, goal, max_kicks)
        if kicks is not None:
            best = split(schedule, kicks, order)
        max_kicks = best.num_kicks - 1
    return best


def _fewest(error: Callable[[int], float], goal: float, max_kicks: int) -> int | None:
    """About the smallest number of kicks with an error within the goal, there and a little on."""
    # Upwards in steps of 15%, until two numbers in a row pass: one alone may pass by chance,
    # where errors of opposite sign cancel.
    kicks, failed, passed = 4, 0, None
    while kicks <= max_kicks:
        if error(kicks) > goal:
            failed, passed = kicks, None
        elif passed is not None:
            break
        else:
            passed = kicks
        kicks = math.ceil(1.15 * kicks)
    # Bisection between the last that failed and the first that passed, to 3%.
    while passed is not None and passed - failed > max(1, 0.03 * passed):
        middle = (passed + failed) // 2
        if error(middle) > goal:
            failed = middle
        else:
            passed = middle
    return passed


def _distance(p: Tensor, q: Tensor) -> float:
    """The largest total variation over the problems."""
    return float((p - q).abs().sum(1).max()) / 2


def _trials(num_spins: int, target: float, coherent: bool) -> tuple[Tensor, Tensor]:
    """Trial problems of one strength: fields alone, couplings alone, both; h and J as programmed.

    Gaussian ones and, if `coherent`, uniform ones (negative: D-Wave's sign of a ferromagnet).
    """
    n = num_spins
    generator = torch.Generator().manual_seed(n)
    draws = 2 if n > ALWAYS_COHERENT else 8
    fields = torch.randn(draws, n, generator=generator, dtype=torch.float64)
    couplings = torch.randn(draws, n, n, generator=generator, dtype=torch.float64)
    if coherent:
        fields = torch.cat([fields, -torch.ones(1, n, dtype=torch.float64)])
        couplings = torch.cat([couplings, -torch.ones(1, n, n, dtype=torch.float64)])
    # Symmetric couplings without a diagonal, of the strength of the fields per spin.
    h, J = fields, couplings.triu(1)
    J = (J + J.mT) / math.sqrt(n)
    h, J = torch.cat([h, h * 0, h]), torch.cat([J * 0, J, J])
    # Each scaled to the target; the bound spares a single spin's absent couplings.
    scale = target / strength(h, J).clamp_min(1e-12)
    return h * scale[:, None], J * scale[:, None, None]
