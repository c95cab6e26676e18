"""``qattn compare --training``: the settings of the trainings that are compared."""

from pathlib import Path
from typing import Any

from qattn.training import TrainConfig, read_settings

SETTINGS: dict[str, Any] = {
    "task": "brackets",
    "context": 8,
    "layers": 1,
    "heads": 2,
    "width": 32,
    "batch_size": 16,
    "steps": 200,
    "lr": 5e-3,
    "warmup": 20,
    "eval_every": 20,
}
"""A short training, unless a configuration says otherwise."""


def compared_training(config: Path | None, **defaults: Any) -> TrainConfig:
    """The training of a TOML file, or else a short one; `defaults` stand where it says nothing."""
    settings = SETTINGS if config is None else read_settings(config)
    return TrainConfig(**(defaults | settings))
