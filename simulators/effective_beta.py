r"""The inverse temperatures at which a fast anneal samples, from first-order perturbation theory.

The anneal starts in the uniform superposition. To first order in the problem energies the final
distribution is

.. math::
    P(s) = 2^{-n}\Big[1 - \beta_h \sum_j h_j s_j - \beta_J \sum_{j<k} J_{jk} s_j s_k\Big],
    \quad \beta_h = \int_0^T 2\pi B \sin\varphi\, dt,
    \quad \beta_J = \int_0^T 2\pi B \sin 2\varphi\, dt,
    \quad \varphi(t) = \int_t^T 2\pi A\, dt',

with h and J in D-Wave's signs. (In the interaction picture σz turns by the angle φ(t) about x
until readout, a product of two by both; σy acting on the starting state is what changes a
probability.) It is the first-order expansion of a Boltzmann distribution in which fields and
couplings have different inverse temperatures. Diabatic annealing as a Boltzmann sampler: Gyhm et
al., arXiv 2409.18126; Kim, Gyhm and Park, arXiv 2509.09374.
"""

from typing import TYPE_CHECKING

import numpy as np

from qattn.simulators.schedules import AnnealSchedule, FloatArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PHASE_STEP = 0.1
"""Largest change of φ in radians over a cell of the quadrature."""

GAUSS_NODES = 6
"""Gauss-Legendre nodes per cell: with PHASE_STEP, an error far below 1e-12 of the integral."""


def effective_betas(schedule: AnnealSchedule) -> tuple[float, float]:
    r"""The pair β_h = ∫2πB sin φ dt and β_J = ∫2πB sin 2φ dt with φ(t) = ∫_t^T 2πA dt'.

    A problem programmed as h and J (D-Wave's signs, P ∝ exp(-E)) comes out near
    P(s) ∝ exp(-β_h Σ h s - β_J Σ J s s) while β_h |h| and β_J |J| are small.

    Args:
        schedule: The schedule; A and B in GHz, times in ns.

    Returns:
        The pair (β_h, β_J), dimensionless. Negative values are possible (a transverse field too
        weak or an anneal too short turns the spins by less than a quarter).

    Source: derived in the module's docstring.

    >>> from qattn.simulators.schedules import AnnealSchedule
    >>> beta_h, beta_J = effective_betas(AnnealSchedule.linear(annealing_time=3.0))
    >>> print(f"{beta_h:.3f}, {beta_J:.3f}")
    2.840, 2.222
    """
    # Cells between the schedule's knots, cut so that the phase turns little in each.
    knots = schedule.times
    cells = np.maximum(1, np.ceil(np.abs(np.diff(schedule.phase(knots))) / PHASE_STEP)).astype(int)
    edges = np.concatenate(
        [
            start + (end - start) * np.arange(m) / m
            for start, end, m in zip(knots[:-1], knots[1:], cells, strict=True)
        ]
        + [knots[-1:]]
    )
    # Gauss-Legendre quadrature: its nodes in every cell, and weights times half the cell's width.
    nodes, weights = np.polynomial.legendre.leggauss(GAUSS_NODES)
    half = np.diff(edges)[:, None] / 2
    times = (edges[:-1, None] + half + half * nodes).ravel()
    on_fields, on_couplings = integrands(schedule, times)
    measure = (half * weights).ravel()
    return float(on_fields @ measure), float(on_couplings @ measure)


def integrands(schedule: AnnealSchedule, times: FloatArray) -> tuple[FloatArray, FloatArray]:
    r"""The integrands 2πB sin φ of β_h and 2πB sin 2φ of β_J at these times, in 1/ns."""
    phase, B = schedule.phase(times), 2 * np.pi * schedule.at(times)[1]
    return B * np.sin(phase), B * np.sin(2 * phase)


def plot_schedule(schedule: AnnealSchedule) -> "Figure":
    """A picture of A and B, the phase φ, and the integrands of β_h and β_J against time."""
    from matplotlib.figure import Figure

    times = np.union1d(np.linspace(0, schedule.annealing_time, 2001), schedule.times)
    A, B = schedule.at(times)
    on_fields, on_couplings = integrands(schedule, times)
    beta_h, beta_J = effective_betas(schedule)
    figure = Figure(figsize=(7, 8), layout="constrained")
    energy, phase, integrand = figure.subplots(3, 1, sharex=True)
    energy.plot(times, A, label="A")
    energy.plot(times, B, label="B")
    energy.set(ylabel="energy / GHz", title=f"{schedule.name}, {schedule.annealing_time:g} ns")
    phase.plot(times, schedule.phase(times), color="k")
    phase.set(ylabel="φ / rad")
    integrand.plot(times, on_fields, label=rf"2πB sin φ, $\beta_h$ = {beta_h:.3g}")
    integrand.plot(times, on_couplings, label=rf"2πB sin 2φ, $\beta_J$ = {beta_J:.3g}")
    integrand.set(ylabel="integrand / (1/ns)", xlabel="time / ns")
    energy.legend()
    integrand.legend()
    return figure
