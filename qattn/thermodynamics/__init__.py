"""Ising models and attention as thermodynamic systems: their quantities against temperature."""

from qattn.thermodynamics.critical import CriticalBeta, critical_beta
from qattn.thermodynamics.curves import QUANTITIES, Curves, thermodynamic_curves
from qattn.thermodynamics.softmax import SoftmaxCurves, softmax_curves

__all__ = [
    "QUANTITIES",
    "CriticalBeta",
    "Curves",
    "SoftmaxCurves",
    "critical_beta",
    "softmax_curves",
    "thermodynamic_curves",
]
