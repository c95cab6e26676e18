r"""Boltzmann attention in PyTorch's own models, in place of ``nn.MultiheadAttention``."""

from qattn.layers.drop_in.attention import BoltzmannMultiheadAttention
from qattn.layers.drop_in.replacing import replace_attention

__all__ = ["BoltzmannMultiheadAttention", "replace_attention"]
