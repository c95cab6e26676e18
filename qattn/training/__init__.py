"""Training runs: settings, the loop, and the folder that a run writes."""

from qattn.training.config import TrainConfig, read_settings
from qattn.training.folder import RunFolder
from qattn.training.learner import Learner
from qattn.training.loop import Interrupted, train

__all__ = ["Interrupted", "Learner", "RunFolder", "TrainConfig", "read_settings", "train"]
