"""Boltzmann attention: attention layers whose attention pattern is an Ising model."""

from qattn import exact
from qattn._version import __version__
from qattn.ising import IsingBatch
from qattn.samples import SpinSamples

__all__ = ["IsingBatch", "SpinSamples", "__version__", "exact"]
