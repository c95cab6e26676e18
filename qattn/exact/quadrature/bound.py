r"""How large the error of the quadrature can be, from the step and from what the nodes leave out.

**σ = 1.** A step D changes every p(s) by a factor within 1 ± ε, ε = 2Σ_m exp(-2π²m²/D²), so that
an occupation changes by at most ε/(1 - ε); nodes that are left out change it by at most their share
of the weights.

**σ = -1.** With P = 2π/step the images have at most 2Σ_m exp(-(mP - r)²/(2 + 2Λ)) of the weight of
the independent spins, r = ⟨a⟩ - c what the saddle was missed by; this and the sizes of the terms
that are left out stand against Z, which is a fraction of that weight.
"""

from math import exp, pi, sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.exact.quadrature.grid import CUT, Grid, Spins, grid_of, spread
from qattn.exact.quadrature.sums import NEGLIGIBLE, Reference

REST = exp(-CUT[torch.float64])
"""Relative weight of nodes that lie beyond those of float64."""


def error_bound(spins: Spins, grid: Grid, sign: int) -> Float[Tensor, "groups queries"]:
    """Of the occupations and log Z that sums over `grid` give; spins in float64."""
    return _positive(spins, grid) if sign > 0 else _negative(spins, grid)


def _positive(spins: Spins, grid: Grid) -> Float[Tensor, "groups queries"]:
    origin, D = grid.origin.double(), grid.step.double()
    last = origin + (grid.number - 1) * D
    # The same lattice from end to end of the nodes of float64, beyond which there is no mode.
    whole = grid_of(spins, 1)
    before = ((origin - whole.origin) / D).ceil().clamp_min(0)
    after = ((whole.origin + (whole.number - 1) * whole.step - last) / D).ceil().clamp_min(0)
    number = (before + grid.number + after).nan_to_num(1.0).long()
    at = Reference.of(spins, Grid(origin - before * D, D, number), 1)
    k = torch.arange(at.num_nodes, device=D.device)[:, None, None]
    w = at.weights()[0] * (k < number)
    kept = (w * ((k >= before) & (k < before + grid.number))).sum(0)
    left_out = (w.sum(0) - kept).clamp_min(0) / kept + 4 * REST + number * exp(-NEGLIGIBLE)
    epsilon = _theta(2 * (pi / D) ** 2)
    return epsilon / (1 - epsilon) + left_out


def _negative(spins: Spins, grid: Grid) -> Float[Tensor, "groups queries"]:
    origin, step = grid.origin.double(), grid.step.double()
    number = (sqrt(2 * CUT[torch.float64]) / step).nan_to_num(0.0).ceil().long() + 1
    number = torch.maximum(number, grid.number)
    at = Reference.of(spins, Grid(origin, step, number), -1)
    # |w_k| and the largest |w_k n_jk|, relative to Z.
    w, log_Z, _ = at.weights()
    sizes = torch.cat([w[k].abs() * (1 + at.occupations(k).abs().amax(2)) for k in at.chunks()])
    k = torch.arange(len(w), device=step.device)[:, None, None]
    left_out = (sizes * (k >= grid.number)).sum(0)
    # Z as a fraction of the weight of the independent spins.
    fraction = (log_Z - at.log_ceiling()).exp()
    missed = ((spins.U * at.b.tanh()).sum(1) + origin).abs()
    image = (2 * pi / step - missed).clamp_min(0) ** 2 / (2 + 2 * spread(spins, at.b))
    return 2 * (_theta(image) + REST) / fraction + left_out


def _theta(x: Float[Tensor, "groups queries"]) -> Float[Tensor, "groups queries"]:
    """2Σ_m exp(-m²x) over m ≥ 1, or a little more."""
    return 2 * (-x).exp() / (1 - (-3 * x).exp())
