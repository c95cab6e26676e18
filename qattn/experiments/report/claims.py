"""The table of claims with their verdicts."""

import math
from collections.abc import Iterable

from qattn.experiments.claims import Verdict
from qattn.experiments.claims.claim import SOURCES
from qattn.experiments.report.table import Table, interval_text

EFFECT = "effect in the direction claimed (95% interval)"
"""Heading of effects: above 0 they speak for the claim, also for one that J is negative."""


def in_order(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Each claim followed by the controls that stand beside it."""
    every = list(verdicts)
    known = {verdict.claim.id for verdict in every}
    beside: dict[str, list[Verdict]] = {}
    for verdict in every:
        target = verdict.claim.beside if verdict.claim.beside in known else ""
        beside.setdefault(target, []).append(verdict)
    return [each for first in beside.get("", ()) for each in _with_controls(first, beside)]


def _with_controls(first: Verdict, beside: dict[str, list[Verdict]]) -> Iterable[Verdict]:
    yield first
    for control in beside.pop(first.claim.id, ()):
        yield from _with_controls(control, beside)


def claims_table(verdicts: Iterable[Verdict]) -> Table:
    """Every claim with its verdict and what it rests on."""
    columns = ["claim", "whose", "verdict", EFFECT, "p (Holm)", "sd", "seeds"]
    rows = [
        [
            verdict.claim.says,
            SOURCES[verdict.claim.source],
            verdict.answer,
            effect_text(verdict),
            p_text(verdict),
            size_text(verdict),
            str(len(verdict.seeds)),
        ]
        for verdict in in_order(verdicts)
    ]
    return Table(columns, rows)


def effect_text(verdict: Verdict) -> str:
    """The effect with its interval, and the bootstrap's where the two disagree."""
    effect = verdict.effect
    if effect is None:
        return "no result yet"
    text = interval_text(effect.mean, effect.interval)
    if not effect.agree:
        text += f", bootstrap: {interval_text(effect.mean, effect.bootstrap_interval)}"
    return f"{text} {verdict.claim.test.unit}"


def p_text(verdict: Verdict) -> str:
    """The adjusted p; "" if there is none."""
    if verdict.effect is None:
        return ""
    p = verdict.decision.p
    return f"{p:.2f}" if p >= 0.095 else f"{p:.1g}"


def size_text(verdict: Verdict) -> str:
    """The effect in standard deviations over seeds."""
    if verdict.effect is None:
        return ""
    size = verdict.effect.size
    return ("∞" if math.isinf(size) else f"{size:+.2f}").replace("-", "−")
