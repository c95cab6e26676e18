r"""Splitting an anneal into kicks by the problem and turns of the spins about x.

.. math::
    U \approx \prod_k e^{i\theta_k \sum_j \sigma^x_j}\, e^{-i \kappa_k E(s)},
    \qquad \theta_k = \pi \int_{t_k}^{t_{k+1}} A\, dt,
    \qquad \kappa_k = \pi \int_{\text{cell } k} B\, dt,

where the kick of cell k acts at its middle t_k. Between kicks the turn is exact however fast the
transverse field varies, and every kick has the exact integral of B over its cell, so there is no
error at zero order in E, and at first order only that of a quadrature of B e^{imφ}. What has to
be small is the turn per cell while B acts; the cells are even in a variable u with
du ∝ (A²B + AB² + ε)^{1/3} dt, which balances the two leading errors of a second-order splitting
(the commutators [X, [X, E]] A²B and [E, [X, E]] AB²) and takes few cells at the end of an anneal,
where A = 0 and nothing moves any more. E has D-Wave's signs, as programmed.

The error of a probability is a power series in the squared size of a cell, so two splittings with
N and 2N kicks give one of fourth order, P = (4 P_2N - P_N)/3.
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from qattn.simulators.schedules import AnnealSchedule, FloatArray

MESH_POINTS = 4096
"""Points at which the density of cells is tabulated."""

MESH_FLOOR = {2: 1e-3, 4: 1e-1}
"""ε of the density of cells, by order, relative to the largest A²B + AB²; the extrapolation to
fourth order needs a smoother density. Both were chosen by measured error on linear schedules and
on the fast schedule of Advantage2."""


@dataclass(frozen=True, eq=False)
class Kicks:
    """A second-order splitting: kick k, then turn k, from the first to the last.

    Attributes:
        kappa: Phase per unit of problem energy of each kick, κ_k, in radians.
        theta: Angle of the turn after each kick, θ_k, in radians (the turn before the first kick
            leaves the uniform superposition as it is).
    """

    kappa: FloatArray
    theta: FloatArray

    def __len__(self) -> int:
        return len(self.kappa)


@dataclass(frozen=True, eq=False)
class Splitting:
    """One second-order splitting, or two whose probabilities are extrapolated to fourth order.

    Attributes:
        parts: The kicks of each run, and the weight of its probabilities in the result.
        order: 2 or 4.
    """

    parts: tuple[tuple[Kicks, float], ...]
    order: int

    @property
    def num_kicks(self) -> int:
        """The number of kicks of all runs, to which the cost is proportional."""
        return sum(len(kicks) for kicks, _ in self.parts)


def split(schedule: AnnealSchedule, num_kicks: int, order: int = 2) -> Splitting:
    """The splitting of a schedule into a number of kicks.

    Args:
        schedule: The schedule.
        num_kicks: Number of kicks, positive; at order 4, of the coarser of its two runs.
        order: 2 or 4.

    Raises:
        ValueError: An argument has another value.
    """
    if num_kicks < 1:
        raise ValueError(f"Argument `num_kicks` must be positive, but is {num_kicks}.")
    if order == 2:
        return Splitting(((_kicks(schedule, num_kicks, order), 1.0),), order)
    if order == 4:
        coarse, fine = (_kicks(schedule, m, order) for m in (num_kicks, 2 * num_kicks))
        return Splitting(((coarse, -1 / 3), (fine, 4 / 3)), order)
    raise ValueError(f"Argument `order` must be 2 or 4, but is {order}.")


def _kicks(schedule: AnnealSchedule, num_kicks: int, order: int) -> Kicks:
    clock = _clock(schedule, MESH_FLOOR[order])
    # Edges of the cells and, half a cell on in u, the times of their kicks.
    edges = clock(np.arange(num_kicks + 1) / num_kicks)
    times = clock((np.arange(num_kicks) + 0.5) / num_kicks)
    # ∫A up to each kick and to the end: a turn lasts from its kick to the next one.
    turned = schedule.areas(np.append(times, schedule.annealing_time))[0]
    return Kicks(np.pi * np.diff(schedule.areas(edges)[1]), np.pi * np.diff(turned))


def _clock(schedule: AnnealSchedule, floor: float) -> PchipInterpolator:
    """The time t in ns as a function of u in [0, 1]; cells are even in u."""
    # du/dt on a mesh; the floor keeps it positive, so that u(t) can be inverted.
    t = np.linspace(0, schedule.annealing_time, MESH_POINTS)
    A, B = schedule.at(t)
    commutators = A * A * B + A * B * B
    largest = commutators.max()
    density = np.cbrt(commutators + floor * largest) if largest > 0 else np.ones_like(t)
    # u(t) by the trapezoidal rule, inverted by a monotone interpolation of t at u.
    u = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return PchipInterpolator(u / u[-1], t)
