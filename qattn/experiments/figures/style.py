"""What the figures of experiments share: a look for each arm, panels, means over seeds."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import stats

from qattn.compare.figures.style import COLOURS, MARKERS
from qattn.experiments.claims.question import BETTER
from qattn.experiments.results import MissingTraining, Results, TrainingResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARMS = ("boltzmann", "softmax", "sigmoid", "couplings", "cardinality", "spin-model")
"""Arms with a colour of their own in every figure: a label has that of its first word."""

DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
"""Lines of arms that share a colour, so that they differ without it as well."""

NAMED = 4
"""Number of missing trainings up to which a figure names each."""


def looks(labels: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and dashes of each arm.

    >>> looks(["softmax", "softmax, relative"])["softmax, relative"]
    {'color': '#D55E00', 'marker': '^', 'linestyle': '--'}
    """
    found: dict[str, dict[str, Any]] = {}
    bases = {label: _base(label) for label in dict.fromkeys(labels)}
    others = [base for base in dict.fromkeys(bases.values()) if base not in ARMS]
    named = any(base in ARMS for base in bases.values())
    order = (*(ARMS if named else ()), *others)
    for label, base in bases.items():
        colour = order.index(base)
        shared = sum(bases[other] == base for other in found)
        found[label] = {
            "color": COLOURS[colour % len(COLOURS)],
            "marker": MARKERS[(colour + 2 * shared) % len(MARKERS)],
            "linestyle": DASHES[shared % len(DASHES)],
        }
    return found


def _base(label: str) -> str:
    """What an arm's label says before a comma; of the known arms the first word alone."""
    start = label.partition(",")[0]
    first = start.partition(" ")[0]
    return first if first in ARMS else start


def over_seeds(
    values: Float[ndarray, "*many seeds"],
) -> tuple[Float[ndarray, "*many"], Float[ndarray, "*many"]]:
    """Mean over seeds, and half the width of its 95% interval (Student's t); nan of one seed."""
    number, mean = values.shape[-1], np.asarray(values.mean(-1))
    if number < 2:
        return mean, np.full_like(mean, np.nan)
    half = stats.t.ppf(0.975, number - 1) * values.std(-1, ddof=1) / number**0.5
    return mean, np.asarray(half)


def metric_of(training: TrainingResult) -> str:
    """The task's metric, beside which the validation loss stands."""
    return next((name for name in training.metrics if name != "validation_loss"), "validation_loss")


def gains(of: TrainingResult, than: TrainingResult, metric: str) -> dict[int, float]:
    """How much better an arm ends than another, by seed; positive where it is better."""
    theirs = dict(zip(than.seeds, than.metrics[metric], strict=True))
    ours = zip(of.seeds, of.metrics[metric], strict=True)
    return {seed: BETTER[metric] * (value - theirs[seed]) for seed, value in ours if seed in theirs}


def reference_arm(results: Results, part: str) -> str:
    """The first arm of a part, with which the others are compared."""
    table = results.definition
    mine = (p for p in table.get("parts", [table]) if p.get("name", "") == part)
    return next(iter(next(mine, table).get("arms", table.get("arms", {}))), "")


def panels(
    trainings: Iterable[TrainingResult], *, along: Sequence[str] = (), parts: bool = True
) -> dict[str, list[TrainingResult]]:
    """Trainings by part and point of the grid, less the settings that a figure has on an axis."""
    found: dict[str, list[TrainingResult]] = {}
    for training in trainings:
        of = training if parts else replace(training, part="")
        found.setdefault(place(of, along), []).append(training)
    return found


def place(training: TrainingResult | MissingTraining, along: Sequence[str] = ()) -> str:
    """Part and point of the grid as a text.

    >>> place(MissingTraining("dense", "softmax", {"context": 4, "lr": 0.001}, [0], 9, 0), ["lr"])
    'dense, context = 4'
    """
    point = [f"{k} = {v}" for k, v in training.point.items() if k not in along]
    return ", ".join(filter(None, [training.part, *point]))


def legend(axes: Any, **settings: Any) -> None:
    """A legend, if there is anything to explain."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(**settings)


def note_missing(figure: "Figure", results: Results) -> None:
    """Say below a figure which trainings it lacks."""
    missing = [f"{m.arm} ({place(m)})" if place(m) else m.arm for m in results.missing]
    if missing:
        more = len(missing) - NAMED
        named = "; ".join(missing[:NAMED]) + (f"; and {more} more" if more > 0 else "")
        text = f"not finished, and not drawn: {named}"
        wide = int(14 * figure.bbox.width / figure.dpi)  # characters of this size
        figure.supxlabel(textwrap.fill(text, wide), fontsize=8, color="0.3")
