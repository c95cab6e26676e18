"""Markov chains of an Ising batch: Gibbs sweeps, tempering, and whether they are in equilibrium."""

from qattn.chains.equilibrium import Doubling, Equilibrium, EquilibriumWarning, equilibrium
from qattn.chains.sweeps import Chains
from qattn.chains.tempering import Moves, Tempering

__all__ = [
    "Chains",
    "Doubling",
    "Equilibrium",
    "EquilibriumWarning",
    "Moves",
    "Tempering",
    "equilibrium",
]
