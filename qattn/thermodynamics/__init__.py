"""Ising models and attention as thermodynamic systems: their quantities against temperature."""

from qattn.thermodynamics.attention_energy import (
    attention_energies,
    attention_force,
    attention_free_energy,
    attention_log_partition,
    ising_force,
    ising_free_energy,
)
from qattn.thermodynamics.critical import (
    CriticalBeta,
    critical_beta,
)
from qattn.thermodynamics.curves import (
    QUANTITIES,
    Curves,
    thermodynamic_curves,
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
from qattn.thermodynamics.regimes import (
    REGIMES,
    positions_held,
    regimes_by_head,
    regimes_of,
)
from qattn.thermodynamics.softmax import (
    SoftmaxCurves,
    softmax_curves,
)
from qattn.thermodynamics.spherical import (
    SphericalModel,
    spherical_model,
)

__all__ = [
    "CAPACITY",
    "QUANTITIES",
    "REGIMES",
    "CriticalBeta",
    "Curves",
    "Recall",
    "Retrieval",
    "SoftmaxCurves",
    "SphericalModel",
    "attention_energies",
    "attention_force",
    "attention_free_energy",
    "attention_log_partition",
    "critical_beta",
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
    "softmax_curves",
    "spherical_model",
    "thermodynamic_curves",
]
