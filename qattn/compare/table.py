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
    "µs / eff. read",
    "QPU µs / eff. read",
)
"""Headings of :func:`table_rows`."""

FIGURES = (
    *("mean_rms", "pair_rms", "total_variation", "kl"),
    *("energy_distance", "gradient_h", "gradient_J"),
)
"""Names of the figures in the columns after the sampler's."""


FLOOR_ROW = "independent exact reads"
"""Name of the first row."""

LATEX = {
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "⟨": r"$\langle$",
    "⟩": r"$\rangle$",
    "±": r"$\pm$",
    "†": r"$\dagger$",
    "β": r"$\beta$",
}
"""Commands of LaTeX for characters of the table."""


def table_rows(set_result: SetResult) -> list[list[str]]:
    """One row of texts per sampler, after that of the floor."""
    floor = [_floor(quality) for quality in [*set_result.judged.values()][:1]]
    return floor + [_row(result) for result in set_result.results]


SHORT = {0: "", 1: "⟨s⟩", 4: "KL/nats", 5: "energy", 7: "dL/dJ", 8: "β_h", 9: "β_J"}
"""Columns of the terminal's table, which has to fit: places in :data:`COLUMNS`, and headings."""


def table(set_result: SetResult) -> Table:
    """The main figures, for a terminal of 80 columns; errors and the rest are in the report."""
    reference = set_result.reference
    kind = f"exact by {reference.kind}" if reference.is_exact else f"{reference.kind}, NOT exact"
    if adrift := len(reference.not_in_equilibrium):
        kind += f", {adrift} NOT in equilibrium"
    reads = _number(float(set_result.floor.num_reads.mean()))
    result = Table(
        title=f"{set_result.name}\n{reference.num_problems} problems of up to "
        f"{reference.batch.num_spins} spins, {reads} reads each; reference: {kind}",
        caption="⟨s⟩, energy, dL/dJ: error over that of as many exact reads (its noise floor).\n"
        "First row: 95% of exact reads are within this of 1 (KL: of its floor).",
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
    )
    texts = table_rows(set_result)
    keep = [i for i in SHORT if any(row[i] for row in texts)]
    if COLUMNS.index("KL (nats)") in keep and not _any_resolved(set_result):
        keep.remove(COLUMNS.index("KL (nats)"))
    for i in keep:
        justify: JustifyMethod = "left" if i == 0 else "right"
        width = 22 if i == 0 else None
        result.add_column(SHORT[i], justify=justify, overflow="fold", min_width=width)
    for row in texts:
        result.add_row(*[_short(row, i) for i in keep])
    return result


def _any_resolved(set_result: SetResult) -> bool:
    return any(quality.states_resolved for quality in set_result.judged.values())


def _short(row: list[str], column: int) -> str:
    """Values without their errors; the floor's errors without the 1 that they stand beside."""
    value, _, error = row[column].partition(" ±")
    if not error or row[0] != FLOOR_ROW:
        return value
    return f"±{error}" if float(value) == 1 else f"{float(value):.1g} ± {float(error):.1g}"


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
    bound = "" if quality.order_resolved else "≥ "  # τ is too small, and reads are worth less
    times = map(result.per_effective_read, (result.seconds, result.qpu_seconds))

    def text(name: str, score: Score) -> str:
        value, error = (
            (score.value, score.error * score.floor) if name == "kl" else (score.ratio, score.error)
        )
        return with_error(value, error) + (mark if METRICS[name].needs_exact else "")

    return [
        result.label,
        *_figures(quality, text),
        *_betas(quality),
        ("" if quality.order_resolved else "≤ ") + _number(quality.effective_reads),
        _number(quality.equivalent_reads),
        *["" if seconds is None else bound + _number(1e6 * seconds) for seconds in times],
    ]


def _floor(quality: Quality) -> list[str]:
    def text(name: str, score: Score) -> str:
        if name == "kl":
            return with_error(score.floor, score.spread() * score.floor)
        return with_error(1.0, score.spread())

    texts = _figures(quality, text)
    return [FLOOR_ROW, *texts, *[""] * (len(COLUMNS) - 1 - len(texts))]


def with_error(value: float, error: float) -> str:
    """A value with its error in two digits, as many decimals for both.

    >>> with_error(2.6012, 0.1234), with_error(0.0039, 0.00071), with_error(12.8, float("nan"))
    ('2.60 ± 0.12', '0.00390 ± 0.00071', '12.8')
    """
    if not (math.isfinite(error) and error > 0):
        return f"{value:.3g}"
    decimals = min(max(0, 1 - math.floor(math.log10(error))), 6)
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"


def _number(value: float) -> str:
    """Three digits, without powers of ten.

    >>> _number(1234.5), _number(0.01234)
    ('1,234', '0.0123')
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def latex(set_result: SetResult) -> str:
    """The figures of :func:`table_rows` as a tabular for LaTeX with the package booktabs."""
    columns = range(len(FIGURES) + 1)
    rows = [[row[i] for i in columns] for row in [list(COLUMNS), *table_rows(set_result)]]
    head, *lines = [" & ".join(map(_in_latex, row)) + r" \\" for row in rows]
    begin = rf"\begin{{tabular}}{{l{'r' * len(FIGURES)}}}"
    return "\n".join(
        [begin, r"\toprule", head, r"\midrule", *lines, r"\bottomrule", r"\end{tabular}", ""]
    )


def _in_latex(text: str) -> str:
    for character, command in LATEX.items():
        text = text.replace(character, command)
    return text


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
