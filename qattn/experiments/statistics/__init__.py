"""Statistics over seeds: paired effects, many comparisons at once, power, fits over lengths."""

from qattn.experiments.statistics.decision import MIN_SEEDS, Answer, Decision, decide
from qattn.experiments.statistics.fits import Fit
from qattn.experiments.statistics.forms import FORMS, Form
from qattn.experiments.statistics.holm import holm
from qattn.experiments.statistics.paired import LEVEL, RELEVANT, PairedEffect
from qattn.experiments.statistics.power import detectable, power, seeds_needed

__all__ = [
    "FORMS",
    "LEVEL",
    "MIN_SEEDS",
    "RELEVANT",
    "Answer",
    "Decision",
    "Fit",
    "Form",
    "PairedEffect",
    "decide",
    "detectable",
    "holm",
    "power",
    "seeds_needed",
]
