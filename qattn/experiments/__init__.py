"""The paper's experiments and ours, as data; what runs them, and what is claimed of them."""

from qattn.experiments.experiment import Experiment, Part, Training
from qattn.experiments.reading import available_experiments, read_experiment
from qattn.experiments.results import MissingTraining, Results, TrainingResult, collect
from qattn.experiments.store import Store

__all__ = [
    "Experiment",
    "MissingTraining",
    "Part",
    "Results",
    "Store",
    "Training",
    "TrainingResult",
    "available_experiments",
    "collect",
    "read_experiment",
]
