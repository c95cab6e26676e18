"""Boltzmann attention: attention layers whose attention pattern is an Ising model."""

from qattn import exact
from qattn._version import __version__
from qattn.attention import boltzmann_attention, boltzmann_weights
from qattn.ising import IsingBatch
from qattn.layers import (
    BoltzmannAttention,
    CouplingsAttention,
    SigmoidAttention,
    SoftmaxAttention,
)
from qattn.samples import SpinSamples
from qattn.transformer import Transformer

__all__ = [
    "BoltzmannAttention",
    "CouplingsAttention",
    "IsingBatch",
    "SigmoidAttention",
    "SoftmaxAttention",
    "SpinSamples",
    "Transformer",
    "__version__",
    "boltzmann_attention",
    "boltzmann_weights",
    "exact",
]
