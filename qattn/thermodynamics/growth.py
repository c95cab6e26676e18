"""How the peak of a fluctuation grows with the size of the system."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, nan, sqrt

from qattn.thermodynamics.critical import CriticalBeta, critical_beta
from qattn.thermodynamics.curves.quantities import Curves
from qattn.thermodynamics.softmax import SoftmaxCurves


@dataclass(frozen=True)
class PeakGrowth:
    """Peaks of systems of several sizes, and the power of n that their heights follow.

    Attributes:
        sizes: Mean number n of spins, or of positions, of the queries of each.
        peaks: The peak of each.
        exponent: κ of the fit height ∝ n^κ, by least squares of logarithms.
        standard_error: Its standard error from the scatter about the fit; nan for two sizes.
    """

    sizes: tuple[float, ...]
    peaks: tuple[CriticalBeta, ...]
    exponent: float
    standard_error: float


def peak_growth(
    curves: Sequence[Curves | SoftmaxCurves], quantity: str = "heat_capacity"
) -> PeakGrowth:
    r"""The exponent κ with which a peak grows, height ∝ n^κ.

    A peak that does not grow, κ = 0, belongs to no transition; a logarithm, as of the heat capacity
    of the two-dimensional Ising model, shows as a small κ that falls with n.

    Args:
        curves: Curves of systems of different sizes, two or more.
        quantity: As of :func:`qattn.thermodynamics.critical_beta`.

    Raises:
        ValueError: There are fewer than two sizes, or a peak lies at an end of the range.
    """
    peaks = tuple(critical_beta(one, quantity) for one in curves)
    sizes = tuple(float(one.sizes[one.sizes >= 2].double().mean()) for one in curves)
    if len(set(sizes)) < 2:
        raise ValueError(f"Argument `curves` must be of two or more sizes, but is of {sizes}.")
    outside = [size for size, peak in zip(sizes, peaks, strict=True) if peak.at_edge]
    if outside:
        raise ValueError(
            f"Argument `curves` must have its peaks within the range of β, but those of sizes "
            f"{outside} lie at an end: take more betas."
        )
    x, y = [log(size) for size in sizes], [log(peak.peak) for peak in peaks]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((a - mean_x) ** 2 for a in x)
    exponent = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
    error = nan
    if len(x) > 2:
        rest = [b - mean_y - exponent * (a - mean_x) for a, b in zip(x, y, strict=True)]
        error = sqrt(sum(r**2 for r in rest) / (len(x) - 2) / spread)
    return PeakGrowth(sizes, peaks, exponent, error)
