"""Schrödinger's equation of many anneals at once, as state vectors, by splitting."""

from qattn.simulators.statevector.choose_splitting import choose_splitting
from qattn.simulators.statevector.evolve import chunk_size, energies, evolve

__all__ = ["choose_splitting", "chunk_size", "energies", "evolve"]
