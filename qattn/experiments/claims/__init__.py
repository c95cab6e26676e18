"""Claims: what an experiment's file says of its trainings, and the verdicts of the results."""

from qattn.experiments.claims.check import check_claim
from qattn.experiments.claims.claim import Claim, read_claim
from qattn.experiments.claims.comparison import Comparison
from qattn.experiments.claims.difference import Difference, NoWorse
from qattn.experiments.claims.judge import Verdict, judge
from qattn.experiments.claims.measured_value import MeasuredValue
from qattn.experiments.claims.question import Question, SeedEffects
from qattn.experiments.claims.selection import Side, UndecidableError
from qattn.experiments.claims.slope import Slope
from qattn.experiments.claims.sooner import Sooner, steps_to

__all__ = [
    "Claim",
    "Comparison",
    "Difference",
    "MeasuredValue",
    "NoWorse",
    "Question",
    "SeedEffects",
    "Side",
    "Slope",
    "Sooner",
    "UndecidableError",
    "Verdict",
    "check_claim",
    "judge",
    "read_claim",
    "steps_to",
]
