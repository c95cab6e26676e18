r"""The critical temperature of a finite system: where a fluctuation is largest.

A finite system has no phase transition, but its heat capacity per spin, or its susceptibility, has
a peak, which grows and sharpens with n towards the transition where there is one.
"""

from dataclasses import dataclass
from math import nan

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.thermodynamics.curves.jackknife import standard_error
from qattn.thermodynamics.curves.quantities import Curves
from qattn.thermodynamics.softmax import SoftmaxCurves

RESAMPLES = 400
"""Bootstrap samples of the queries."""


@dataclass(frozen=True)
class CriticalBeta:
    """Where the mean curve of the queries has its peak.

    Attributes:
        value: β of the peak; nan if there is none within the range.
        standard_error: Its standard error; nan if there is no peak.
        peak: Height of the peak; of the highest point, if that is an end of the range.
        at_edge: Whether the highest point is an end of the range: then there is no peak, and
            nothing is known of a transition but that it does not lie within.
        num_queries: Number of queries of the mean.
    """

    value: float
    standard_error: float
    peak: float
    at_edge: bool
    num_queries: int


def critical_beta(
    curves: Curves | SoftmaxCurves, quantity: str = "heat_capacity", *, seed: int = 0
) -> CriticalBeta:
    r"""β at the peak of the mean of a quantity over all queries of two or more spins.

    The heat capacity is taken per spin, C/n (of softmax attention: per position); susceptibilities
    are per spin as they are. The peak is that of the parabola through the highest point of the
    curve and its two neighbours. Its standard error is that of a bootstrap over the queries (0 for
    one query, of which there are no others), and, where curves come from reads, of their jackknife
    too.

    Args:
        curves: The curves.
        quantity: Name of a quantity of the curves, "heat_capacity" or
            "spin_glass_susceptibility", say.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: `quantity` is not one of the curves', there are fewer than three β, or no query
            of two or more spins.

    Two levels at ±1 have their Schottky peak where β tanh β = 1, at β = 1.1997:

    >>> from qattn.thermodynamics import softmax_curves
    >>> curves = softmax_curves(torch.tensor([1.0, -1.0]), torch.linspace(0.8, 1.6, 17))
    >>> round(critical_beta(curves).value, 3)
    1.2
    """
    rows = _rows(curves, quantity)
    mean = rows.mean(0)
    value, peak, inside = peaks(curves.betas, mean)
    if not bool(inside):
        return CriticalBeta(nan, nan, float(peak), True, len(rows))
    generator = torch.Generator().manual_seed(seed)
    shape = (RESAMPLES, len(rows))
    drawn = torch.randint(len(rows), shape, generator=generator)
    counts = torch.zeros(shape, dtype=rows.dtype).scatter_add_(
        1, drawn, torch.ones(()).double().expand(shape)
    )
    variance = peaks(curves.betas, counts @ rows / len(rows))[0].var()
    if isinstance(curves, Curves) and quantity in curves.replicates:
        without = _rows(curves, quantity, curves.replicates[quantity]).mean(1)
        variance = variance + standard_error(peaks(curves.betas, without)[0]).square()
    return CriticalBeta(float(value), float(variance.sqrt()), float(peak), False, len(rows))


def peaks(
    x: Float[Tensor, " points"], y: Float[Tensor, "*curves points"]
) -> tuple[Float[Tensor, "*curves"], Float[Tensor, "*curves"], Tensor]:
    """Where each curve is highest, how high, and whether that is within the range.

    Between the points by the parabola through the highest point and its neighbours; at an end of
    the range, that end.
    """
    top = y.nan_to_num(-torch.inf).argmax(-1, keepdim=True)
    inside = ((top > 0) & (top < len(x) - 1)).squeeze(-1)
    middle = top.clamp(1, len(x) - 2)
    x0, x1, x2 = (x[middle + i].squeeze(-1) for i in (-1, 0, 1))
    y0, y1, y2 = (y.gather(-1, middle + i).squeeze(-1) for i in (-1, 0, 1))
    # Newton's form: y = y1 + s (x - x1) + c (x - x1)(x - x0), with slopes between neighbours.
    left, right = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
    curvature = (right - left) / (x2 - x0)
    slope = left + curvature * (x1 - x0)
    step = torch.where(curvature < 0, -slope / (2 * curvature), 0)
    at_end, height = x[top].squeeze(-1), y.gather(-1, top).squeeze(-1)
    return (
        torch.where(inside, x1 + step, at_end),
        torch.where(inside, y1 + slope * step / 2, height),
        inside,
    )


def _rows(
    curves: Curves | SoftmaxCurves, quantity: str, values: Tensor | None = None
) -> Float[Tensor, "*replicates rows betas"]:
    """Curves of the queries of two or more spins, the heat capacity per spin."""
    values = getattr(curves, quantity, None) if values is None else values
    if not isinstance(values, Tensor) or values.ndim <= curves.sizes.ndim:
        raise ValueError(
            f"Argument `quantity` must name a quantity of the curves, but is {quantity!r}."
        )
    if len(curves.betas) < 3:
        raise ValueError(
            f"Argument `curves` must have three or more betas, but has {len(curves.betas)}."
        )
    sizes = curves.sizes.flatten()
    chosen = sizes >= 2
    if not bool(chosen.any()):
        raise ValueError("Argument `curves` must have a query of two or more spins, but has none.")
    rows = values.flatten(-1 - curves.sizes.ndim, -2) if curves.sizes.ndim else values[None]
    rows = rows[..., chosen, :]
    return rows / sizes[chosen].unsqueeze(-1) if quantity == "heat_capacity" else rows
