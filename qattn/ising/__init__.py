"""Ising models in batches, their reads, and their states as numbers."""

from qattn.ising.batch import IsingBatch, to_dimod_signs
from qattn.ising.samples import SpinSamples
from qattn.ising.states import invert_cdf, states
from qattn.ising.union_bqm import split_union, union_bqm

__all__ = [
    "IsingBatch",
    "SpinSamples",
    "invert_cdf",
    "split_union",
    "states",
    "to_dimod_signs",
    "union_bqm",
]
