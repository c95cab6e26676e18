"""Verdicts on the claims of an experiment, from its results alone."""

from dataclasses import dataclass

from qattn.experiments.claims.claim import Claim, read_claim
from qattn.experiments.claims.question import SeedEffects
from qattn.experiments.claims.selection import UndecidableError
from qattn.experiments.results import Results
from qattn.experiments.statistics import Answer, Decision, PairedEffect, decide


@dataclass(frozen=True)
class Verdict:
    """What an experiment says of a claim.

    Attributes:
        claim: The claim.
        decision: Its verdict within the experiment's family of claims.
        effect: The paired effect, positive in the direction claimed; None if there is none.
        seeds: The seeds, in the order of the effect's values.
        dropped: Seeds that only one side has, and that do not count.
        lacks: What results have not got; "" if nothing.
        note: What else is to be said of the effects; "" if nothing.
    """

    claim: Claim
    decision: Decision
    effect: PairedEffect | None
    seeds: tuple[int, ...] = ()
    dropped: tuple[int, ...] = ()
    lacks: str = ""
    note: str = ""

    @property
    def answer(self) -> Answer:
        """The verdict: "holds", "does not hold" or "not decided"."""
        return self.decision.answer

    @property
    def reason(self) -> str:
        """Why, with the effect and what is odd about it, in one sentence."""
        if self.effect is None:
            return f"{_capitalised(self.lacks or self.decision.reason)}."
        effect, unit = self.effect, self.claim.test.unit
        words = (
            f"effect {_number(effect.mean)} {unit} (95% interval {_interval(effect.interval)}); "
        )
        words += self.decision.reason
        if not effect.agree:
            words += f"; the bootstrap's interval differs: {_interval(effect.bootstrap_interval)}"
        words += f"; {self.note}" if self.note else ""
        if self.dropped:
            words += f"; without seeds {', '.join(map(str, self.dropped))}, which one side lacks"
        return f"{_capitalised(words)}."


def judge(results: Results) -> list[Verdict]:
    """Verdicts on all claims of an experiment, which are one family for Holm's adjustment.

    Args:
        results: Results of the experiment.

    Raises:
        ValueError: A claim's table is wrong.
    """
    claims = [read_claim(table) for table in results.definition.get("claims", ())]
    found = [_effects(claim, results) for claim in claims]
    effects = [
        None
        if isinstance(each, str)
        else PairedEffect(list(each.by_seed.values()), claim.test.null, claim.test.relevant)
        for claim, each in zip(claims, found, strict=True)
    ]
    verdicts = []
    for claim, each, effect, decision in zip(claims, found, effects, decide(effects), strict=True):
        if isinstance(each, str):
            verdicts.append(Verdict(claim, decision, None, lacks=each))
        else:
            seeds, dropped = tuple(each.by_seed), tuple(each.dropped)
            verdicts.append(Verdict(claim, decision, effect, seeds, dropped, note=each.note))
    return verdicts


def _effects(claim: Claim, results: Results) -> SeedEffects | str:
    """Effects by seed, or what is missing for them."""
    try:
        found = claim.test.effects(results)
    except UndecidableError as error:
        return str(error)
    return found if found.by_seed else "the two sides have no seed in common"


def _interval(ends: tuple[float, float]) -> str:
    return " to ".join(map(_number, ends))


def _number(value: float) -> str:
    return f"{value:.3g}".replace("-", "−").replace("inf", "∞")


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]
