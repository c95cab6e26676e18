r"""Multi-head attention layers with one interface: Boltzmann attention and its controls."""

from qattn.layers.boltzmann import BoltzmannAttention
from qattn.layers.cache import KeyValueCache
from qattn.layers.controls import SigmoidAttention, SoftmaxAttention
from qattn.layers.drop_in import BoltzmannMultiheadAttention, replace_attention
from qattn.layers.multihead import MultiheadAttention as MultiheadAttention
from qattn.layers.pattern import IsingPattern
from qattn.layers.spin_model import SpinModelAttention
from qattn.layers.variants import CardinalityAttention, CouplingsAttention

__all__ = [
    "BoltzmannAttention",
    "BoltzmannMultiheadAttention",
    "CardinalityAttention",
    "CouplingsAttention",
    "IsingPattern",
    "KeyValueCache",
    "SigmoidAttention",
    "SoftmaxAttention",
    "SpinModelAttention",
    "replace_attention",
]

ATTENTION: dict[str, type[MultiheadAttention]] = {
    "boltzmann": BoltzmannAttention,
    "softmax": SoftmaxAttention,
    "sigmoid": SigmoidAttention,
    "couplings": CouplingsAttention,
    "cardinality": CardinalityAttention,
    "spin-model": SpinModelAttention,
}
"""The arms of the ablation by the name that the command line uses."""
