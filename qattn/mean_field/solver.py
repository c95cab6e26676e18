"""Solving a method's equations: the fixed point, whether it can be trusted, and its error."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qattn.mean_field.error_estimate import estimate
from qattn.mean_field.iteration import FixedPoint, iterate
from qattn.mean_field.means import Means
from qattn.mean_field.methods import EQUATIONS, Method

ELEMENTS = 2**22
"""Numbers of a (groups, queries, n, n) tensor; more queries are taken in parts."""

NAIVE = EQUATIONS["mean-field"]

STRONG = 0.9
"""Largest eigenvalue of βJ of a group, from which on other solutions are looked for."""

SAME, SHARE = 1e-2, 1e-3
"""Largest rms difference of ⟨s⟩ of one solution found twice; share of Z of one that is ignored."""


@dataclass(frozen=True)
class Settings:
    """How to solve.

    Attributes:
        method: Name of the method.
        tolerance: Largest change of a ⟨s⟩ in a step of a solution.
        max_iterations: Steps after which one gives up.
        num_estimates: Queries of each group whose error is estimated, evenly spaced; None for all.
    """

    method: str
    tolerance: float
    max_iterations: int
    num_estimates: int | None = None


class Solved(NamedTuple):
    """The solutions of all queries.

    Attributes:
        state: Of the method; see :class:`qattn.mean_field.methods.Method`.
        error: Estimated rms error of ⟨s⟩; NaN where none was asked for.
        converged: Whether it is one stable solution whose error can be estimated.
        stable: Whether it is a solution and stable.
        residual: Largest change of a ⟨s⟩ in one more step.
        iterations: Steps that were taken.
    """

    state: Float[Tensor, "groups queries k"]
    error: Float[Tensor, "groups queries"]
    converged: Bool[Tensor, "groups queries"]
    stable: Bool[Tensor, "groups queries"]
    residual: Float[Tensor, "groups queries"]
    iterations: Int[Tensor, "groups queries"]


def solve_all(
    h: Float[Tensor, "groups queries n"],
    J: Float[Tensor, "groups n n"],
    present: Bool[Tensor, "#groups queries n"],
    settings: Settings,
) -> Solved:
    """Solutions at β = 1, of as many queries at a time as memory is good for."""
    G, Q, n = h.shape
    present = present.expand(G, Q, n)
    J = torch.where(torch.eye(n, dtype=torch.bool, device=J.device), 0, J)
    strongest = _strongest(J)
    wanted = torch.zeros(Q, dtype=torch.bool, device=h.device)
    wanted[:: max(1, -(-Q // (settings.num_estimates or Q)))] = True
    rows = max(1, ELEMENTS // (G * n * n))
    parts = [
        _solve(h[:, part], J, present[:, part], strongest, wanted[part], settings)
        for part in (slice(start, start + rows) for start in range(0, Q, rows))
    ]
    return Solved(*(torch.cat(tensors, 1) for tensors in zip(*parts, strict=True)))


def _solve(
    h: Tensor,
    J: Tensor,
    present: Tensor,
    strongest: Float[Tensor, "g n"] | None,
    wanted: Bool[Tensor, " q"],
    settings: Settings,
) -> Solved:
    method = EQUATIONS[settings.method]
    h = torch.where(present, h, 0)
    found = _from(h, h, J, present, method, settings)
    state, means = found.state, _means(found.state, present)
    stable = found.residual <= settings.tolerance
    residual = found.residual
    other_error, unique = torch.zeros_like(residual), torch.ones_like(stable)
    if strongest is not None:
        stable &= _is_stable(method.response(state, J, means))
        # Naive equations have several solutions first: theirs from both ends of the strongest mode
        # tell where the distribution may have two modes, and are where to look for them.
        ends = [
            _from(h + sign * strongest.unsqueeze(1), h, J, present, NAIVE, settings).state
            for sign in (1, -1)
        ]
        low, high = (_means(end, present) for end in ends)
        unique &= ~_differ(low, high, h, J)[0]
        for end in [] if bool(unique.all()) else ends:
            other = _from(end, h, J, present, method, settings)
            others = _means(other.state, present)
            sound = other.residual <= settings.tolerance
            sound &= _is_stable(method.response(other.state, J, others))
            # Of stable solutions that of the least free energy; the other has its share of Z.
            differ, gap, share, apart = _differ(means, others, h, J)
            unique &= ~(differ & sound & stable)
            second = torch.where(sound & stable, share * apart, 0)
            other_error = torch.maximum(other_error, second)
            better = sound & (~stable | (gap < 0))
            state = torch.where(better.unsqueeze(-1), other.state, state)
            residual = torch.where(better, other.residual, residual)
            stable, means = stable | sound, _means(state, present)
    error, trusted = torch.full_like(residual, torch.nan), torch.ones_like(stable)
    if bool(wanted.any()):
        own = Means.of(means.theta[:, wanted], present[:, wanted])
        estimated = estimate(h[:, wanted], J, own)
        error[:, wanted] = torch.maximum(estimated.error, other_error[:, wanted])
        trusted[:, wanted] = estimated.trusted
    converged = stable & unique & trusted
    return Solved(state, error, converged, stable, residual, found.iterations)


def _differ(
    means: Means, others: Means, h: Tensor, J: Tensor
) -> tuple[Bool[Tensor, "g q"], Tensor, Tensor, Tensor]:
    """Whether two solutions differ and both count, F' - F, the lesser share of Z, rms distance."""
    gap = _free_energy(h, J, others) - _free_energy(h, J, means)
    share = (-gap.abs()).sigmoid()
    apart = means.distance(others.m)
    return (apart > SAME) & (share > SHARE), gap, share, apart


def _free_energy(h: Tensor, J: Tensor, means: Means) -> Float[Tensor, "g q"]:
    """The variational bound of -ln Z, by independent spins with these means."""
    theta, m = means.theta, means.m
    # Entropy ln(2 cosh θ) - m θ of each spin, without overflow.
    entropy = theta.abs() + (-2 * theta.abs()).exp().log1p() - m * theta
    return -(entropy * means.present + m * (h + m @ J / 2)).sum(-1)


def _from(
    theta: Tensor, h: Tensor, J: Tensor, present: Tensor, method: Method, settings: Settings
) -> FixedPoint:
    """The solution that one reaches from θ."""

    def update(state: Tensor, h: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        means = _means(state, present)
        copies = state.shape[-1] // present.shape[-1]
        f = method.change(state, h, J, means) * present.repeat(1, 1, copies)
        return f, (f[..., : h.shape[-1]].abs() * means.v).amax(-1)

    start = method.start(theta, J, Means.of(theta, present))
    return iterate(update, start, (h, present), settings.tolerance, settings.max_iterations)


def _means(state: Tensor, present: Tensor) -> Means:
    return Means.of(state[..., : present.shape[-1]], present)


def _is_stable(response: Float[Tensor, "g q n n"]) -> Bool[Tensor, "g q"]:
    """Whether the free energy has a minimum there."""
    stable: Tensor = torch.linalg.cholesky_ex(response)[1] == 0
    return stable


def _strongest(J: Float[Tensor, "g n n"]) -> Float[Tensor, "g n"] | None:
    """Fields along the mode of the largest eigenvalue, if that is strong in some group."""
    if not bool(J.isfinite().all()):
        return None
    values, vectors = torch.linalg.eigh(J)
    if not bool((values[:, -1] > STRONG).any()):
        return None
    ends: Tensor = vectors[:, :, -1] * (2 * math.sqrt(J.shape[-1]))
    return ends
