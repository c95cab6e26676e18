"""Several comparisons at once."""

from collections.abc import Sequence


def holm(p: Sequence[float]) -> list[float]:
    r"""Adjusted p of each of m comparisons (Holm, Scand. J. Stat. 6, 65, 1979).

    In order of size, :math:`p_{(1)} \le … \le p_{(m)}`,

    .. math::
        \tilde p_{(k)} = \min\bigl(1,\; \max_{j \le k} \, (m - j + 1) \, p_{(j)}\bigr) .

    To call those below α significant makes a false call among the m with probability at most α,
    however the comparisons depend on each other.

    Example:
        >>> holm([0.01, 0.04, 0.03, 0.005])
        [0.03, 0.06, 0.06, 0.02]
    """
    order = sorted(range(len(p)), key=p.__getitem__)
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[place]))
        adjusted[place] = largest
    return adjusted
