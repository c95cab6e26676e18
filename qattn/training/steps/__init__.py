"""Parts of a training step: the optimiser, its learning rates, and what is looked at after."""

from qattn.training.steps.adamw import OWN_RATE, make_optimizer, regrouped, share_of_peak
from qattn.training.steps.outcome import diverged, mean_field_figures

__all__ = [
    "OWN_RATE",
    "diverged",
    "make_optimizer",
    "mean_field_figures",
    "regrouped",
    "share_of_peak",
]
