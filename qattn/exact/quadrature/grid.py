r"""Where the integrand of a rank-one coupling is evaluated: the nodes of each query.

With a(s) = Σ_j U_j s_j, the weight of a state is exp(h·s + σ a²/2), and

.. math:: e^{a^2/2} = \int \mathcal N(x)\, e^{xa} dx, \qquad
          e^{-a^2/2} = \int \mathcal N(x)\, e^{ixa} dx .

For a given x the spins are independent, with the fields h_j + ξU_j, ξ = x or ξ = ix.

**σ = 1.** The integrand is Σ_s exp(h·s + a²/2) N(x - a), a positive mixture of unit Gaussians, so
that the trapezoid rule of step D multiplies every p(s) by a factor within 1 ± 2Σ_m exp(-2π²m²/D²)
(Poisson summation), whatever n, h and U. The nodes must cover every mode. Modes solve x = F(x),
F(x) = Σ U_j tanh(h_j + xU_j), which increases from -Σ|U| to Σ|U|: iterated from these ends, it
brackets all of them at every step.

**σ = -1.** Any line x = y - ic may be integrated along, which gives ξ = -c' + iy with c' = -c; the
best is through the saddle, the only solution of c' = Σ U_j tanh(h_j - c'U_j). The spins then are
independent ones of fields b_j = h_j - c'U_j, and the weight of a state is theirs times
exp(-(a - c')²/2). With step 2π/P the trapezoid rule adds the images exp(-(a - c' - mP)²/2), m ≠ 0.
The sum of independent ±U_j has a generating function within exp(θ²Λ/2), Λ = Σ U_j² tanh(b_j)/b_j
(Kearns and Saul, "Large deviation methods for approximate probabilistic inference", UAI 1998), so
that the images have at most 2Σ_m exp(-m²P²/(2 + 2Λ)) of the weight of the independent spins.
"""

from math import log, pi, sqrt
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

STEP = {torch.float32: 1.1, torch.float64: 0.85}
"""D of the positive sign: probabilities of states are right to 3.3e-7 and 5.5e-12."""

CUT = {torch.float32: 17.0, torch.float64: 37.0}
"""Nodes with less than e^-CUT of the largest weight are left out."""

ITERATIONS = 200
"""Most steps of any iteration; what has not converged by then gets more nodes, no worse ones."""


class Grid(NamedTuple):
    """Nodes ξ of each query: origin + k·step, or origin + i·k·step if σ = -1, k < number."""

    origin: Float[Tensor, "groups queries"]
    step: Float[Tensor, "groups queries"]
    number: Int[Tensor, "groups queries"]


class Spins(NamedTuple):
    """Fields and U of a block of queries, both 0 at absent spins."""

    h: Float[Tensor, "groups n queries"]
    U: Float[Tensor, "groups n queries"]
    present: Bool[Tensor, "groups n queries"]

    def slope(self, x: Float[Tensor, "groups queries"]) -> Tensor:
        """F(x) = Σ_j U_j tanh(h_j + xU_j)."""
        return (self.U * (self.h + x.unsqueeze(1) * self.U).tanh()).sum(1)

    def log_weight(self, x: Float[Tensor, "groups queries"]) -> Tensor:
        """-x²/2 + Σ_j log 2cosh(h_j + xU_j), up to a constant: log 2 for each absent spin."""
        b = (self.h + x.unsqueeze(1) * self.U).abs()
        return (b + torch.log1p((-2 * b).exp())).sum(1) - x**2 / 2


def grid_of(spins: Spins, sign: int) -> Grid:
    """The nodes of every query."""
    return _covering(spins) if sign > 0 else _through_the_saddle(spins)


def _covering(spins: Spins) -> Grid:
    """Nodes on the real line, beyond all modes on both sides."""
    D, cut = STEP[spins.h.dtype], CUT[spins.h.dtype]
    low, high = _bracket(spins, D)
    # A spin's small occupation has a weight of its own, which a factor up to e^(2|U_j x|) moves.
    tilt = 2 * spins.U.abs().amax(1)
    peak = torch.maximum(spins.log_weight(low), spins.log_weight(high))
    ends = []
    for end, outward in ((low, -1.0), (high, 1.0)):
        # Beyond all modes the weight decreases, and from Σ|U| on like a Gaussian: what is cut off
        # is less than a node's weight times the distance to there.
        margin = cut + (spins.U.abs().sum(1) - outward * end).clamp_min(1.0).log()
        distance = (2 * margin).sqrt() + tilt  # no Gaussian of the mixture is narrower
        for _ in range(ITERATIONS):
            x = end + outward * distance
            excess = spins.log_weight(x) + tilt * distance - peak + margin
            if not bool((excess > 0).any()):
                break
            fall = outward * (x - spins.slope(x)) - tilt
            distance = distance + torch.where(
                excess > 0, (excess / fall.clamp_min(0.1)).clamp(D, 10 * D), 0.0
            )
        ends.append(end + outward * distance)
    number = ((ends[1] - ends[0]) / D).nan_to_num(0.0, 0.0, 0.0).ceil().long() + 1
    return Grid(ends[0], torch.full_like(low, D), number)


def _bracket(spins: Spins, tolerance: float) -> tuple[Tensor, Tensor]:
    """An interval that holds all solutions of x = F(x)."""
    high = spins.U.abs().sum(1)
    low = -high
    for _ in range(ITERATIONS):
        bounds = spins.slope(low), spins.slope(high)
        change = torch.maximum(bounds[0] - low, high - bounds[1])
        low, high = bounds
        if not bool((change > tolerance / 2).any()):
            break
    return low, high


def _through_the_saddle(spins: Spins) -> Grid:
    """Half the nodes, y ≥ 0, of the line through the saddle: -y gives the complex conjugate."""
    cut = CUT[spins.h.dtype]
    origin = -_saddle(spins)
    b = spins.h + origin.unsqueeze(1) * spins.U
    # The images of the weight of one spin's small occupation are moved by up to 2|U_j|.
    period = (2 * (cut + log(2)) * (1 + spread(spins, b))).sqrt() + 2 * spins.U.abs().amax(1)
    step = 2 * pi / period
    number = (sqrt(2 * cut) / step).nan_to_num(0.0, 0.0, 0.0).ceil().long() + 1
    return Grid(origin, step, number)


def spread(spins: Spins, b: Float[Tensor, "groups n queries"]) -> Float[Tensor, "groups queries"]:
    """Λ = Σ U_j² tanh(b_j)/b_j, which is at least the variance of Σ U_j s_j."""
    return (spins.U**2 * torch.where(b == 0, 1.0, b.tanh() / b)).sum(1)


def _saddle(spins: Spins) -> Float[Tensor, "groups queries"]:
    """c = Σ U_j tanh(h_j - cU_j) to 0.01, by Newton's method within a bracket."""
    high = spins.U.abs().sum(1)
    low, c = -high, torch.zeros_like(high)
    for step in range(ITERATIONS):
        t = (spins.h - c.unsqueeze(1) * spins.U).tanh()
        error = c - (spins.U * t).sum(1)
        if not bool((error.abs() > 0.01).any()):
            break
        low, high = torch.where(error < 0, c, low), torch.where(error > 0, c, high)
        newton = c - error / (1 + (spins.U**2 * (1 - t**2)).sum(1))
        # Newton's steps may jump to and fro across a narrow bend: every third one is a bisection.
        inside = (newton > low) & (newton < high) if step % 3 < 2 else torch.zeros_like(c).bool()
        c = torch.where(inside, newton, (low + high) / 2)
    return c
