"""A ladder as a table: the same rows for the terminal and for the page."""

from math import nan

import torch
from rich import box
from rich.table import Table

from qattn.spin_glass.results import Ladder, Section

HEADINGS = ("β", "F/n", "F_q − F", "F_w − F", "ESS", "forward", "P(q)", "reads are")

SHORT = {
    "usable with weights": "usable",
    "too few effective reads": "too few",
    "collapsed": "collapsed",
}
"""Verdicts as a narrow table has them."""


def table_rows(section: Section) -> list[list[str]]:
    """A row of texts for each β: means over problems of energies, medians of both ESS."""
    rows = []
    for b, beta in enumerate(section.betas.tolist()):
        bound, weighted = zip(*(excess(ladder, b) for ladder in section.ladders), strict=True)
        judged = [ladder.judged[b] for ladder in section.ladders]
        free = [
            float(ladder.of("free_energy")[2][b]) / ladder.num_spins for ladder in section.ladders
        ]
        counts = section.verdicts(b)
        rows.append(
            [
                f"{beta:.3g}",
                f"{_mean(free):.4f}",
                _with_error(bound),
                _with_error(weighted),
                f"{_median([one.ess for one in judged]):.3f}",
                f"{_median([one.forward_ess for one in judged]):.3f}",
                _overlap(section, beta),
                ", ".join(
                    (f"{number} " if len(judged) > 1 else "") + SHORT[verdict]
                    for verdict, number in counts.most_common()
                ),
            ]
        )
    return rows


def excess(ladder: Ladder, b: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Variational and weighted F less that of the reference, per spin, each with its error."""
    beta, n, judged = float(ladder.curves.betas[b]), ladder.num_spins, ladder.judged[b]
    log_Z, error = (float(x[b]) for x in ladder.of("log_Z")[2:])
    found = (
        (judged.log_Z_bound, judged.log_Z_bound_error),
        (judged.log_Z, judged.log_Z_error),
    )
    bound, weighted = (
        ((log_Z - value) / (beta * n), (error**2 + own**2) ** 0.5 / (beta * n))
        for value, own in found
    )
    return bound, weighted


def table(section: Section) -> Table:
    """The ladder for a terminal of 80 columns."""
    shown = Table(
        title=f"{section.name}\n{section.sampler}; reference: {references(section)}",
        caption="F_q: variational bound; F_w: from weighted reads; less F of the\n"
        "reference in thousandths a spin, with standard errors. ESS: effective\n"
        "share of reads, from the sampler's own; forward: from reads of the\n"
        "reference. P(q): distance to the reference over what errors make.",
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
    )
    for number, heading in enumerate(HEADINGS):
        last = number == len(HEADINGS) - 1
        shown.add_column(heading, justify="left" if last else "right", overflow="fold")
    for row in table_rows(section):
        shown.add_row(*row)
    return shown


def references(section: Section) -> str:
    """How the references were found, in words."""
    words = list(dict.fromkeys(ladder.kind for ladder in section.ladders))
    adrift = sum(not ladder.in_equilibrium for ladder in section.ladders)
    noted = f" ({adrift} not known to be in equilibrium)" if adrift else ""
    return ", ".join(words) + noted


def _with_error(values: tuple[tuple[float, float], ...]) -> str:
    """The mean of values with errors, in thousandths."""
    mean = 1e3 * _mean([value for value, _ in values])
    error = 1e3 * sum(error**2 for _, error in values) ** 0.5 / len(values)
    digits = 1 if error >= 1 else 2 if error >= 0.1 else 3
    return f"{mean:+.{digits}f}±{error:.{digits}f}"


def _overlap(section: Section, beta: float) -> str:
    """Distance of P(q) over its noise, mean over problems; "" where it was not measured."""
    ratios = [
        one.distance / one.noise if one.noise else nan
        for ladder in section.ladders
        if (one := ladder.overlaps.get(beta)) is not None
    ]
    return f"{_mean(ratios):.2f}" if ratios else ""


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _median(values: list[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).quantile(0.5))
