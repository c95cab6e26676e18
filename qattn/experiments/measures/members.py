"""The trained models of a run, and their numbers as a compact file keeps them."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from qattn.training.config import TrainConfig
from qattn.training.folder import RunFolder
from qattn.training.trained_run import TrainedRun, load

DIGITS = 5
"""Significant digits that are kept of a number."""


def members(config: TrainConfig, run: RunFolder) -> Iterator[TrainedRun]:
    """Model and task of each member, in the order of seeds; moments are exact."""
    for member in range(config.ensemble):
        yield load(run.path, member=member, data=config.data_path)


def compact(values: Tensor) -> Any:
    """A tensor as nested lists of rounded numbers; None where there is none (nan).

    >>> import torch
    >>> compact(torch.tensor([[1 / 3, 2.0], [torch.nan, 1e-9]]))
    [[0.33333, 2.0], [None, 1e-09]]
    """
    if values.ndim:
        return [compact(value) for value in values]
    number = float(values)
    return None if number != number else float(f"{number:.{DIGITS}g}")
