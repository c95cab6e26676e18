"""The trained models of a run, and their numbers as a compact file keeps them."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qattn.layers import MultiheadAttention
from qattn.training.config import TrainConfig
from qattn.training.folder import RunFolder
from qattn.training.tasks import Task
from qattn.training.trained_run import TrainedRun, load
from qattn.transformer import Transformer

DIGITS = 5
"""Significant digits that are kept of a number."""


def members(config: TrainConfig, run: RunFolder) -> Iterator[TrainedRun]:
    """Model and task of each member, in the order of seeds; moments are exact."""
    for member in range(config.ensemble):
        yield load(run.path, member=member, data=config.data_path)


def untrained(config: TrainConfig, member: int, task: Task) -> Transformer:
    """The model of a member before its first step."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed + member)
        return config.model(task.vocab_size).eval()


def betas_of(model: Transformer) -> Float[Tensor, "layers heads"]:
    """Inverse temperature of each head."""
    layers = [m for m in model.modules() if isinstance(m, MultiheadAttention)]
    each = [torch.as_tensor(m.beta, dtype=torch.float64).expand(m.num_heads) for m in layers]
    return torch.stack(each).detach()


def scores_of(
    model: Transformer, tokens: Int[Tensor, "batch T"]
) -> Float[Tensor, "layers heads batch T T"]:
    """Scores of every query, -∞ at positions that it does not see."""
    return torch.stack(model.scores(tokens)).double().transpose(1, 2)


def compact(values: Tensor) -> Any:
    """A tensor as nested lists of rounded numbers; None where there is no finite one.

    >>> import torch
    >>> compact(torch.tensor([[1 / 3, 2.0], [torch.nan, 1e-9]]))
    [[0.33333, 2.0], [None, 1e-09]]
    """
    if values.ndim:
        return [compact(value) for value in values]
    number = float(values)
    return float(f"{number:.{DIGITS}g}") if math.isfinite(number) else None
