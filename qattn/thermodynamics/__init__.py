"""Ising models and attention as thermodynamic systems: their quantities against temperature."""

from qattn.thermodynamics.correlations import (
    Correlations,
    correlation_length,
    correlations_by_distance,
)
from qattn.thermodynamics.critical import CriticalBeta, critical_beta
from qattn.thermodynamics.curves import (
    QUANTITIES,
    Curves,
    OverlapWarning,
    thermodynamic_curves,
)
from qattn.thermodynamics.growth import PeakGrowth, peak_growth
from qattn.thermodynamics.heads import critical_betas_of_heads
from qattn.thermodynamics.overlap import OverlapDistribution, overlap_distribution
from qattn.thermodynamics.softmax import SoftmaxCurves, softmax_curves

__all__ = [
    "QUANTITIES",
    "Correlations",
    "CriticalBeta",
    "Curves",
    "OverlapDistribution",
    "OverlapWarning",
    "PeakGrowth",
    "SoftmaxCurves",
    "correlation_length",
    "correlations_by_distance",
    "critical_beta",
    "critical_betas_of_heads",
    "overlap_distribution",
    "peak_growth",
    "softmax_curves",
    "thermodynamic_curves",
]
