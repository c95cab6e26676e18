"""What effects say of the claims that they are effects of: holds, does not hold, not decided."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from qattn.experiments.statistics.holm import holm
from qattn.experiments.statistics.paired import LEVEL, PairedEffect
from qattn.experiments.statistics.power import POWER, detectable

MIN_SEEDS = 10
"""With fewer seeds nothing is decided, whatever p says."""

Answer = Literal["holds", "does not hold", "not decided"]
"""The verdicts."""


@dataclass(frozen=True)
class Decision:
    """The verdict on one claim of a family.

    Attributes:
        answer: Whether it holds.
        reason: Why, in words.
        p: Holm-adjusted p of the test that the verdict rests on; where nothing is decided, that of
            the difference from x₀ in the effect's own direction.
    """

    answer: Answer
    reason: str
    p: float = 1.0


def decide(effects: Sequence[PairedEffect | None]) -> list[Decision]:
    r"""Verdicts on the claims of one family, each of which says that its effect is above x₀.

    With Holm's adjustment over all of them, at level α = 5%,

    - a claim **holds** if its effect is significantly above x₀;
    - it **does not hold** if its effect is significantly below the smallest relevant one, be it too
      small or of the opposite sign;
    - else it is **not decided**, as it is with fewer than ten seeds.

    Each of the two tests has level α/2 and is adjusted by itself, and no effect can be at once
    at most x₀ and at least the smallest relevant one. So a verdict of the family is false with
    probability at most α, and the two directions of a difference are claimed falsely with
    probability at most α.

    Args:
        effects: The effects, signed so that the claimed direction is up; None where there is
            none, which stays in the family's number.
    """
    tested = [effect if effect and effect.seeds >= MIN_SEEDS else None for effect in effects]
    above, below, irrelevant = (
        holm([1.0 if effect is None else getattr(effect, name) for effect in tested])
        for name in ("p_above", "p_below", "p_irrelevant")
    )
    return [
        _decide(effect, *adjusted)
        for effect, *adjusted in zip(effects, above, below, irrelevant, strict=True)
    ]


def _decide(effect: PairedEffect | None, above: float, below: float, irrelevant: float) -> Decision:
    if effect is None:
        return Decision("not decided", "there is no effect to judge")
    if effect.seeds < MIN_SEEDS:
        return Decision(
            "not decided",
            f"{effect.seeds} seeds are fewer than the {MIN_SEEDS} that a claim must have",
        )
    if above < LEVEL:
        return Decision("holds", _evidence(effect, above), above)
    if below < LEVEL:
        opposite = f"the effect is below {_edge(effect)}" if effect.null else "the opposite holds"
        return Decision("does not hold", f"{opposite}: {_evidence(effect, below)}", below)
    if irrelevant < LEVEL:
        reason = f"the effect is below {effect.relevant} sd: {_evidence(effect, irrelevant)}"
        return Decision("does not hold", reason, irrelevant)
    p = above if effect.mean >= effect.null else below
    if effect.sd == 0 and effect.mean == effect.null:
        reason = f"all {effect.seeds} seeds show the same and no difference, as at a ceiling"
        return Decision("not decided", reason, p)
    reason = (
        f"{_evidence(effect, p)}; {effect.seeds} seeds find {detectable(effect.seeds):.1f} sd "
        f"with probability {POWER:.0%} in a single comparison"
    )
    return Decision("not decided", reason, p)


def _edge(effect: PairedEffect) -> str:
    return f"{effect.null:g}".replace("-", "−")


def _evidence(effect: PairedEffect, p: float) -> str:
    size = f"{effect.size:+.2f}".replace("-", "−").replace("inf", "∞")
    beyond = f" from {_edge(effect)}" if effect.null else ""
    rounded = f"{p:.2f}" if p >= 0.095 else f"{p:.1g}"
    return f"{size} sd{beyond} at {effect.seeds} seeds, adjusted p = {rounded}"
