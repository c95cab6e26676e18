"""Tables of a report, and how their cells say numbers."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from qattn.experiments.figures.style import over_seeds


@dataclass(frozen=True)
class Table:
    """Texts in rows under headings."""

    columns: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        r"""The table in Markdown, "" if it has no rows.

        >>> print(Table(["arm", "T"], [["a|b", "12"]]).markdown())
        | arm | T |
        |---|---|
        | a\|b | 12 |
        """
        if not self.rows:
            return ""
        lines = [self.columns, *self.rows]
        head, *body = [" | ".join(escaped(cell) for cell in line) for line in lines]
        return "\n".join(
            [f"| {head} |", "|" + "---|" * len(self.columns), *(f"| {b} |" for b in body)]
        )


def escaped(text: str) -> str:
    r"""A text in Markdown that is neither HTML nor ends a cell.

    >>> escaped("a|b <c>")
    'a\\|b &lt;c>'
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def mean_text(values: Iterable[float]) -> str:
    """Mean over seeds, with half the width of its 95% interval.

    >>> mean_text([6.30, 6.32, 6.28]), mean_text([0.9991]), mean_text([])
    ('6.300 ± 0.050', '0.9991', '')
    """
    numbers = np.array(list(values), dtype=float)
    if not len(numbers):
        return ""
    mean, half = map(float, over_seeds(numbers))
    if not half > 0:
        return f"{mean:.5g}"
    return f"{mean:.{decimals(half)}f} ± {half:.{decimals(half)}f}"


def interval_text(value: float, ends: tuple[float, float]) -> str:
    """A value with its interval.

    >>> interval_text(-0.7213, (-0.83, -0.612)), interval_text(1.0, (-math.inf, math.inf))
    ('−0.72 (−0.83 to −0.61)', '1.000 (−∞ to ∞)')
    """
    places = decimals((ends[1] - ends[0]) / 2)
    low, high = (f"{end:.{places}f}" for end in ends)
    return f"{value:.{places}f} ({low} to {high})".replace("-", "−").replace("inf", "∞")


def decimals(error: float) -> int:
    """Digits after the point that leave an error two significant ones.

    >>> decimals(0.049), decimals(0.13), decimals(12.0)
    (3, 2, 0)
    """
    return max(0, 1 - math.floor(math.log10(error))) if 0 < error < math.inf else 3


def seed_range(seeds: list[int]) -> str:
    """Seeds as a range.

    >>> seed_range([0, 1, 2]), seed_range([4])
    ('0 to 2', '4')
    """
    return str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
