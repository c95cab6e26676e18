r"""Distributions of the energy βE(s), and how far those of reads are from them.

.. math:: W_1 = \int |F(E) - G(E)|\, dE,

the first Wasserstein distance of two cumulative distributions: by how much, on average, energy has
to be moved to turn one into the other. In units of 1/β, because h and J hold β.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from qattn.exact.dense import enumeration

ATOMS = 1 << 13
"""Maximum number of atoms of a stored distribution; an exact one of more states is merged, and W₁
is then off by less than the mean width of an atom, about 1e-3 standard deviations of the energy."""


class EnergyDistribution(NamedTuple):
    """A distribution of the energy on finitely many values, ascending."""

    values: NDArray[np.float64]
    probabilities: NDArray[np.float64]

    @property
    def mean(self) -> float:
        """Mean of the energy."""
        return float(self.values @ self.probabilities)

    @property
    def sd(self) -> float:
        """Standard deviation of the energy."""
        return float(np.sqrt((self.values - self.mean) ** 2 @ self.probabilities))


def exact_distribution(h: Float[Tensor, " n"], J: Float[Tensor, "n n"]) -> EnergyDistribution:
    """Distribution of one problem's energy from its 2^n states, in at most :data:`ATOMS` atoms."""
    n = len(h)
    model = enumeration.Models(
        torch.zeros(1, dtype=torch.int64),
        torch.zeros(1, dtype=torch.int64),
        h[None],
        J[None],
        torch.ones(1, n, dtype=torch.bool),
    )
    log_weights = torch.cat([weights[0] for _, weights in enumeration.log_weights(model)])
    ascending = np.sort(-log_weights.numpy())
    probabilities = np.exp(ascending[0] - ascending)
    return merged(ascending, probabilities / probabilities.sum())


def distribution_of(energies: NDArray[np.float64]) -> EnergyDistribution:
    """Distribution of the energies of equally likely reads."""
    return merged(np.sort(energies), np.full(len(energies), 1 / len(energies)))


def merged(values: NDArray[np.float64], probabilities: NDArray[np.float64]) -> EnergyDistribution:
    """The distribution on ascending values, neighbours merged where there are too many."""
    if len(values) > ATOMS:
        # Atoms of about equal probability, each at the mean of the energies that it stands for.
        cumulative = np.cumsum(probabilities)
        first = np.unique(
            np.searchsorted(cumulative, np.arange(ATOMS) / ATOMS * cumulative[-1], side="right")
        )
        first[0] = 0
        total = np.add.reduceat(probabilities, first)
        values = np.add.reduceat(probabilities * values, first) / total
        probabilities = total
    return EnergyDistribution(values, probabilities / probabilities.sum())
