"""Training runs: settings, the loop, the folder that a run writes, and the model that comes out."""

from qattn.training.config import TrainConfig, read_settings
from qattn.training.folder import RunFolder
from qattn.training.learner import Learner
from qattn.training.loop import train
from qattn.training.plots import plot_run
from qattn.training.resuming import Interrupted
from qattn.training.trained_run import TrainedRun, load

__all__ = [
    "Interrupted",
    "Learner",
    "RunFolder",
    "TrainConfig",
    "TrainedRun",
    "load",
    "plot_run",
    "read_settings",
    "train",
]
