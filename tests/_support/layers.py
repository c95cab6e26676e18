"""Layers of every arm for tests of what they compute."""

import torch

from qattn import BoltzmannAttention
from qattn.layers import ATTENTION

LINEAR = [arm for arm in ATTENTION if arm != "spin-model"]
"""Arms whose heads give the values times their weights."""


def layer_and_input(arm, **options):
    """A layer whose couplings are strong enough to matter, and three sequences."""
    torch.manual_seed(0)
    layer = ATTENTION[arm](8, 2, 6, **options)
    if isinstance(layer, BoltzmannAttention):
        torch.nn.init.normal_(layer.coupling_values, std=0.4)
    return layer, torch.randn(3, 6, 8)
