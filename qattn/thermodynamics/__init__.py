"""Ising models and attention as thermodynamic systems: their quantities against temperature."""

from qattn.thermodynamics.attention_energy import (
    attention_energies,
    attention_force,
    attention_free_energy,
    attention_log_partition,
    ising_force,
    ising_free_energy,
)
from qattn.thermodynamics.correlations import (
    Correlations,
    correlation_length,
    correlations_by_distance,
)
from qattn.thermodynamics.critical import (
    CriticalBeta,
    critical_beta,
)
from qattn.thermodynamics.curves import (
    QUANTITIES,
    Curves,
    OverlapWarning,
    curves_of_reads,
    thermodynamic_curves,
)
from qattn.thermodynamics.growth import (
    PeakGrowth,
    peak_growth,
)
from qattn.thermodynamics.heads import (
    critical_betas_of_heads,
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
from qattn.thermodynamics.overlap import (
    OverlapDistribution,
    overlap_distribution,
    overlaps_of_reads,
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
    "Correlations",
    "CriticalBeta",
    "Curves",
    "OverlapDistribution",
    "OverlapWarning",
    "PeakGrowth",
    "Recall",
    "Retrieval",
    "SoftmaxCurves",
    "SphericalModel",
    "attention_energies",
    "attention_force",
    "attention_free_energy",
    "attention_log_partition",
    "correlation_length",
    "correlations_by_distance",
    "critical_beta",
    "critical_betas_of_heads",
    "curves_of_reads",
    "hebbian_couplings",
    "hopfield_batch",
    "hopfield_energy",
    "hopfield_update",
    "ising_force",
    "ising_free_energy",
    "overlap_distribution",
    "overlaps_of_reads",
    "peak_growth",
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
