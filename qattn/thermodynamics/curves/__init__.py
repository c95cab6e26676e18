"""Curves of thermodynamic quantities of Ising batches against β."""

from qattn.thermodynamics.curves.function import thermodynamic_curves
from qattn.thermodynamics.curves.quantities import QUANTITIES, Curves

__all__ = ["QUANTITIES", "Curves", "thermodynamic_curves"]
