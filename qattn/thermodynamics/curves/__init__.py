"""Curves of thermodynamic quantities of Ising batches against β."""

from qattn.thermodynamics.curves.function import thermodynamic_curves
from qattn.thermodynamics.curves.mbar import OverlapWarning
from qattn.thermodynamics.curves.quantities import QUANTITIES, Curves

__all__ = ["QUANTITIES", "Curves", "OverlapWarning", "thermodynamic_curves"]
