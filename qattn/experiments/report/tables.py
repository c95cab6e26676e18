"""Tables of a report: arms with their means, and what is missing."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from qattn.experiments.figures.style import over_seeds, place
from qattn.experiments.results import Results


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
        head, *body = [" | ".join(cell.replace("|", "\\|") for cell in line) for line in lines]
        return "\n".join(
            [f"| {head} |", "|" + "---|" * len(self.columns), *(f"| {b} |" for b in body)]
        )


def arms_table(results: Results) -> Table:
    """A row for each finished training: the metrics at the end over seeds, size and time."""
    metrics = list(dict.fromkeys(name for t in results.trainings for name in t.metrics))
    with_place = any(place(training) for training in results.trainings)
    columns = ["arm", *(name.replace("_", " ") for name in metrics), "seeds", "parameters", "steps"]
    rows = [
        [
            *([place(training)] if with_place else []),
            training.arm,
            *(mean_text(training.metrics.get(name, [])) for name in metrics),
            str(len(training.seeds)),
            f"{training.parameters:,}",
            f"{training.steps:,}",
            duration(training.seconds),
        ]
        for training in results.trainings
    ]
    return Table([*(["part"] if with_place else []), *columns, "time"], rows)


def missing_table(results: Results) -> Table:
    """A row for each training that is not finished, with what it would take."""
    rows = [
        [
            f"{m.arm} ({place(m)})" if place(m) else m.arm,
            seed_range(m.seeds),
            f"{m.steps_done:,} of {m.steps:,}",
            "not known" if m.seconds_needed is None else duration(m.seconds_needed),
        ]
        for m in results.missing
    ]
    return Table(["training", "seeds", "steps done", "one core needs"], rows)


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


def decimals(error: float) -> int:
    """Digits after the point that leave an error two significant ones.

    >>> decimals(0.049), decimals(0.13), decimals(12.0)
    (3, 2, 0)
    """
    return max(0, 1 - int(np.floor(np.log10(error)))) if 0 < error < np.inf else 3


def duration(seconds: float) -> str:
    """A time as a reader says it.

    >>> duration(0.2), duration(75), duration(4000), duration(40000)
    ('1 s', '75 s', '67 min', '11.1 h')
    """
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def seed_range(seeds: list[int]) -> str:
    """Seeds as a range.

    >>> seed_range([0, 1, 2]), seed_range([4])
    ('0 to 2', '4')
    """
    return str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"


def made_with(results: Results) -> dict[str, str]:
    """Versions and CPUs of all trainings; several of one kind are all named."""
    found: dict[str, dict[str, None]] = {}
    for training in results.trainings:
        versions: dict[str, Any] = training.provenance.get("versions", {})
        for name, value in versions.items():
            found.setdefault(name, {})[str(value)] = None
    return {name: ", ".join(values) for name, values in found.items()}
