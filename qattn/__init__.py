"""Boltzmann attention: attention layers whose attention pattern is an Ising model."""

from qattn import estimators, exact
from qattn._version import __version__
from qattn.attention import boltzmann_attention, boltzmann_weights
from qattn.backends import (
    Backend,
    DimodBackend,
    as_dimod_sampler,
    available_backends,
    get_backend,
    register_backend,
)
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
    "Backend",
    "BoltzmannAttention",
    "CouplingsAttention",
    "DimodBackend",
    "IsingBatch",
    "SigmoidAttention",
    "SoftmaxAttention",
    "SpinSamples",
    "Transformer",
    "__version__",
    "as_dimod_sampler",
    "available_backends",
    "boltzmann_attention",
    "boltzmann_weights",
    "estimators",
    "exact",
    "get_backend",
    "register_backend",
]
