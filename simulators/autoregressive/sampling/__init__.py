"""From autoregressive nets to reads of p: weights, resampling, and what helps where q is far off.

Draws of q for any batch come from a :class:`Sampler`. Weights e^(-βE)/q make every estimate from
them consistent; :func:`anneal` carries them through temperatures where the weights are too uneven,
:func:`metropolis` takes them as proposals, and :class:`GlobalMoves` does so inside tempering.
"""

from qattn.simulators.autoregressive.sampling.global_moves import GlobalMoves
from qattn.simulators.autoregressive.sampling.metropolis import metropolis
from qattn.simulators.autoregressive.sampling.population_annealing import Annealed, anneal
from qattn.simulators.autoregressive.sampling.sampler import Draws, Sampler
from qattn.simulators.autoregressive.sampling.weights import normalised, resampled

__all__ = [
    "Annealed",
    "Draws",
    "GlobalMoves",
    "Sampler",
    "anneal",
    "metropolis",
    "normalised",
    "resampled",
]
