"""The optimiser of a training and its learning rates."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from qattn.training.config import TrainConfig

OWN_RATE = ("coupling_values", "field_bias", "position_bias_values", "log_beta")
"""Ends of the names of parameters whose learning rate has a factor of its own."""


def make_optimizer(parameters: dict[str, Tensor], config: TrainConfig) -> torch.optim.AdamW:
    """AdamW of these parameters, which have gradients from now on."""
    groups = []
    for own_rate in (False, True):
        chosen = [v for k, v in parameters.items() if k.endswith(OWN_RATE) == own_rate]
        if chosen:
            factor = config.coupling_lr_factor if own_rate else 1.0
            groups.append({"params": chosen, "peak_lr": config.lr * factor})
    for value in parameters.values():
        value.requires_grad_()
    return torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay, fused=True)


def share_of_peak(number: int, config: TrainConfig) -> float:
    """Share of the peak learning rate that step `number`, from 0 on, takes."""
    if number < config.warmup:
        return (number + 1) / config.warmup
    if config.lr_decay == "none":
        return 1.0
    # From 1 at the first step after the warm-up to 0 at the one after the last.
    left = max(0.0, (config.steps - number) / max(1, config.steps - config.warmup))
    return left if config.lr_decay == "linear" else math.sin(math.pi / 2 * left) ** 2


def regrouped(saved: dict[str, Any], own: dict[str, Any], learned: Iterable[str]) -> dict[str, Any]:
    """A saved state in the present groups, from when biases had no rate of their own.

    Args:
        saved: The state of an optimiser in a checkpoint.
        own: The state of the present one.
        learned: Names of the parameters that are trained.
    """
    sizes = [[len(group["params"]) for group in s["param_groups"]] for s in (saved, own)]
    if sizes[0] == sizes[1]:
        return saved
    before = sorted(learned, key=lambda name: name.endswith("coupling_values"))
    now = sorted(learned, key=lambda name: name.endswith(OWN_RATE))
    place = {name: number for number, name in enumerate(before)}
    state = {number: saved["state"].get(place[name]) for number, name in enumerate(now)}
    return {"state": {k: v for k, v in state.items() if v}, "param_groups": own["param_groups"]}
