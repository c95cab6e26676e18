"""How often the paired t test finds an effect, and how many seeds that takes."""

import math
from functools import cache

from scipy import optimize, stats

from qattn.experiments.statistics.paired import LEVEL

POWER = 0.8
"""How often an effect should be found, for which seeds are counted."""


def power(size: float, seeds: int, level: float = LEVEL) -> float:
    r"""Chance that the two-sided paired t test finds an effect, in its own direction.

    .. math::
        P(T > t_{1 - α/2,\, n - 1}), \qquad T \sim \mathrm{nct}(n - 1,\, \sqrt n \, |d_z|) .

    Args:
        size: Effect d_z, in standard deviations over seeds.
        seeds: Number of seeds n.
        level: Level α of the test.

    Raises:
        ValueError: There are fewer than two seeds.

    Example:
        >>> f"{power(0.5, 10):.3f}, {power(1.0, 10):.3f}"
        '0.293, 0.803'
    """
    if seeds < 2:
        raise ValueError(f"Argument `seeds` must be at least 2, but is {seeds}.")
    critical = stats.t.ppf(1 - level / 2, seeds - 1)
    return float(stats.nct.sf(critical, seeds - 1, math.sqrt(seeds) * abs(size)))


@cache
def detectable(seeds: int, chance: float = POWER, level: float = LEVEL) -> float:
    """The effect d_z that this many seeds find with this chance.

    >>> f"{detectable(10):.2f}"
    '1.00'
    """
    return float(optimize.brentq(lambda size: power(size, seeds, level) - chance, 0.0, 1e3))


def seeds_needed(size: float, chance: float = POWER, level: float = LEVEL) -> int:
    """The number of seeds that finds an effect d_z with this chance.

    Raises:
        ValueError: The effect is 0, which no number of seeds finds.

    Example:
        >>> seeds_needed(0.5), seeds_needed(1.0)
        (34, 10)
    """
    if size == 0:
        raise ValueError("Argument `size` must not be 0, which no number of seeds finds.")
    # Power grows with n: double until it suffices, then halve the bracket.
    low, high = 1, 2
    while power(size, high, level) < chance:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if power(size, middle, level) < chance else (low, middle)
    return high
