"""The comparison as a table: the same rows for the terminal and for the report."""

import math
from collections.abc import Callable

from rich import box
from rich.console import JustifyMethod
from rich.table import Table

from qattn.compare.results import SamplerResult, SetResult
from qattn.quality import METRICS, Quality, Score

COLUMNS = (
    "sampler",
    "⟨s⟩ / floor",
    "⟨ss⟩ / floor",
    "TV / floor",
    "KL (nats)",
    "energy / floor",
    "dL/dh / floor",
    "dL/dJ / floor",
    "β_h",
    "β_J",
    "p(β_h = β_J)",
    "eff. reads",
    "worth exact reads",
    "s / eff. read",
    "QPU s / eff. read",
)
"""Headings of :func:`table_rows`."""

FIGURES = (
    *("mean_rms", "pair_rms", "total_variation", "kl"),
    *("energy_distance", "gradient_h", "gradient_J"),
)
"""Names of the figures in the columns after the sampler's."""


def table_rows(set_result: SetResult) -> list[list[str]]:
    """One row of texts per sampler, after that of the floor."""
    floor = [_floor(quality) for quality in [*set_result.judged.values()][:1]]
    return floor + [_row(result) for result in set_result.results]


SHORT = {0: "", 1: "⟨s⟩", 4: "KL/nats", 5: "energy", 7: "dL/dJ", 8: "β_h", 9: "β_J"}
"""Columns of the terminal's table, which has to fit: places in :data:`COLUMNS`, and headings."""


def table(set_result: SetResult) -> Table:
    """The main figures, for the terminal; the rest is in the report."""
    batch = set_result.reference.batch
    kind = "exact" if set_result.reference.is_exact else "a long run of neal, NOT exact"
    result = Table(
        title=f"{set_result.name}: {set_result.reference.num_problems} problems of up to "
        f"{batch.num_spins} spins, {float(set_result.floor.num_reads.mean()):g} reads each; "
        f"reference: {kind}",
        caption="⟨s⟩, energy, dL/dJ: error over that of the same number of exact reads",
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
    )
    texts = table_rows(set_result)
    keep = [i for i in SHORT if any(row[i] for row in texts)]
    for i in keep:
        justify: JustifyMethod = "left" if i == 0 else "right"
        result.add_column(SHORT[i], justify=justify, overflow="fold", min_width=22 if i == 0 else 5)
    for row in texts:
        result.add_row(*[_short(row, i) for i in keep])
    return result


def _short(row: list[str], column: int) -> str:
    """Betas without their intervals, and the floor without its 1."""
    text = row[column].removeprefix("1 ")
    return text.partition(" ±")[0] if COLUMNS[column] in ("β_h", "β_J") else text


def figure_rows(set_result: SetResult) -> list[list[str]]:
    """Every figure of every sampler, and the floor: a heading and a row each."""
    judged = [quality.scores for quality in set_result.judged.values()]
    rows = [["figure", *set_result.judged, "floor"]]
    for name, metric in METRICS.items():
        scores = [score[name] for score in judged if name in score]
        if scores:
            values = [f"{score[name].value:.3g}" if name in score else "" for score in judged]
            floor = f"{scores[0].floor:.3g} ± {scores[0].floor_sd:.1g}"
            rows.append([metric.label, *values, floor])
    return rows


def _row(result: SamplerResult) -> list[str]:
    quality = result.quality
    if quality is None:
        return [result.label, f"failed: {result.error}", *[""] * (len(COLUMNS) - 2)]
    mark = "" if quality.states_resolved or not quality.is_exact else " †"
    times = map(result.per_effective_read, (result.seconds, result.qpu_seconds))
    return [
        result.label,
        *_figures(
            quality,
            lambda name, score: (
                (f"{score.value:.2g}" if name == "kl" else f"{score.ratio:.3g}")
                + (mark if METRICS[name].needs_exact else "")
            ),
        ),
        *_betas(quality),
        f"{quality.effective_reads:.0f}",
        f"{quality.equivalent_reads:.3g}",
        *["" if seconds is None else f"{seconds:.2g}" for seconds in times],
    ]


def _floor(quality: Quality) -> list[str]:
    def text(name: str, score: Score) -> str:
        if name == "kl":
            return f"{score.floor:.2g} ± {score.floor_sd:.1g}"
        return f"1 ± {score.ratio_error:.2g}"

    texts = _figures(quality, text)
    return ["independent exact reads", *texts, *[""] * (len(COLUMNS) - 1 - len(texts))]


def _figures(quality: Quality, text: Callable[[str, Score], str]) -> list[str]:
    """Texts of the figures that have a column; "" for one that has no value."""
    scores = quality.scores
    return [text(name, scores[name]) if name in scores else "" for name in FIGURES]


def _betas(quality: Quality) -> list[str]:
    if quality.betas is None:
        return ["not fixed", "not fixed", ""]
    p = math.nan if quality.one_beta is None else quality.one_beta[2]
    return [
        *[
            f"{value:.3f} ± {(high - low) / 2:.3f}" if math.isfinite(value) else ""
            for value, (low, high) in zip(
                quality.betas.values, quality.betas.interval(), strict=True
            )
        ],
        f"{p:.2g}" if math.isfinite(p) else "",
    ]
