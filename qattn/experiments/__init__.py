"""The paper's experiments and ours, as data; what runs them, and what is claimed of them."""

from qattn.experiments.experiment import (
    Experiment,
    Part,
    Training,
    available_experiments,
    read_experiment,
)
from qattn.experiments.store import Store

__all__ = ["Experiment", "Part", "Store", "Training", "available_experiments", "read_experiment"]
