"""Curves of thermodynamic quantities of Ising batches against β."""

from qattn.thermodynamics.curves.function import thermodynamic_curves
from qattn.thermodynamics.curves.mbar import OverlapWarning
from qattn.thermodynamics.curves.quantities import QUANTITIES, Curves
from qattn.thermodynamics.curves.weighted import curves_of_reads

__all__ = ["QUANTITIES", "Curves", "OverlapWarning", "curves_of_reads", "thermodynamic_curves"]
