"""Ising models and attention as thermodynamic systems: their quantities against temperature."""

from qattn.thermodynamics.attention_energy import (
    attention_energies,
    attention_force,
    attention_free_energy,
    attention_log_partition,
    ising_force,
    ising_free_energy,
)
from qattn.thermodynamics.hopfield import (
    CAPACITY,
    Recall,
    hebbian_couplings,
    hopfield_batch,
    recall,
    recall_by_dynamics,
)
from qattn.thermodynamics.modern_hopfield import (
    Retrieval,
    hopfield_energy,
    hopfield_update,
    retrieve,
)
from qattn.thermodynamics.regimes import REGIMES, positions_held, regimes_by_head, regimes_of
from qattn.thermodynamics.spherical import SphericalModel, spherical_model

__all__ = [
    "CAPACITY",
    "REGIMES",
    "Recall",
    "Retrieval",
    "SphericalModel",
    "attention_energies",
    "attention_force",
    "attention_free_energy",
    "attention_log_partition",
    "hebbian_couplings",
    "hopfield_batch",
    "hopfield_energy",
    "hopfield_update",
    "ising_force",
    "ising_free_energy",
    "positions_held",
    "recall",
    "recall_by_dynamics",
    "regimes_by_head",
    "regimes_of",
    "retrieve",
    "spherical_model",
]
