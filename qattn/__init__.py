"""Boltzmann attention: attention layers whose attention pattern is an Ising model.

Start here: :mod:`qattn.layers` are PyTorch modules around the function of :mod:`qattn.attention`,
which turns queries and keys into the Ising models of :mod:`qattn.ising`; :mod:`qattn.exact` solves
them, or a backend of :mod:`qattn.backends` samples them for :mod:`qattn.estimators`. On that stand
:mod:`qattn.training`, :mod:`qattn.compare` and the command line; :mod:`qattn.simulators` and
:mod:`qattn.hardware` hold the backends beyond the exact one.

Everything is imported when it is first used.
"""

from typing import TYPE_CHECKING

from qattn._lazy import lazy
from qattn._version import __version__ as __version__

if TYPE_CHECKING:
    from qattn import backends as backends
    from qattn import estimators as estimators
    from qattn import exact as exact
    from qattn import hardware as hardware
    from qattn import mean_field as mean_field
    from qattn import problems as problems
    from qattn import quality as quality
    from qattn import simulators as simulators
    from qattn import testing as testing
    from qattn.attention import boltzmann_attention as boltzmann_attention
    from qattn.attention import boltzmann_weights as boltzmann_weights
    from qattn.backends import Backend as Backend
    from qattn.backends import DimodBackend as DimodBackend
    from qattn.backends import as_dimod_sampler as as_dimod_sampler
    from qattn.backends import available_backends as available_backends
    from qattn.backends import get_backend as get_backend
    from qattn.backends import register_backend as register_backend
    from qattn.ising import IsingBatch as IsingBatch
    from qattn.ising import SpinSamples as SpinSamples
    from qattn.layers import BoltzmannAttention as BoltzmannAttention
    from qattn.layers import BoltzmannMultiheadAttention as BoltzmannMultiheadAttention
    from qattn.layers import CardinalityAttention as CardinalityAttention
    from qattn.layers import CouplingsAttention as CouplingsAttention
    from qattn.layers import SigmoidAttention as SigmoidAttention
    from qattn.layers import SoftmaxAttention as SoftmaxAttention
    from qattn.layers import SpinModelAttention as SpinModelAttention
    from qattn.training import TrainConfig as TrainConfig
    from qattn.training import load as load
    from qattn.training import train as train
    from qattn.transformer import Transformer as Transformer

__getattr__, __all__ = lazy(__name__, __file__)
__all__ += ["__version__"]


def __dir__() -> list[str]:
    return __all__
