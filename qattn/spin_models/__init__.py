r"""Kinetic spin models: mean-field dynamics of spins whose couplings need not be symmetric.

What :class:`qattn.SpinModelAttention` computes, for couplings of any origin.
"""

from qattn.mean_field import NotConvergedWarning
from qattn.spin_models.binary import mean_spin as binary_mean_spin
from qattn.spin_models.simulation import simulate
from qattn.spin_models.steady_state import steady_state
from qattn.spin_models.step import MEAN_FIELDS, SPINS, kinetic_step
from qattn.spin_models.vector import mean_spin as vector_mean_spin

__all__ = [
    "MEAN_FIELDS",
    "SPINS",
    "NotConvergedWarning",
    "binary_mean_spin",
    "kinetic_step",
    "simulate",
    "steady_state",
    "vector_mean_spin",
]
