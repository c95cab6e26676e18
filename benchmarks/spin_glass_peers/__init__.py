"""Other samplers for ``benchmarks/spin_glass.py``, written from the papers that describe them.

``van`` has variational autoregressive networks with and without a cache, ``two_body`` the linear
net of two-body interactions, ``reinforce`` the training of both, ``chains`` what a read of parallel
tempering, Gibbs sampling and simulated annealing costs.
"""

from spin_glass_peers.chains import ChainReads, independent_reads, reads_of
from spin_glass_peers.reinforce import OfNet, Optimiser, Sampler, Training, train
from spin_glass_peers.two_body import TwoBody
from spin_glass_peers.van import MADE, PixelCNN, Van

__all__ = [
    "MADE",
    "ChainReads",
    "OfNet",
    "Optimiser",
    "PixelCNN",
    "Sampler",
    "Training",
    "TwoBody",
    "Van",
    "independent_reads",
    "reads_of",
    "train",
]
