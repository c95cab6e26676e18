r"""Softmax attention as a Boltzmann distribution over positions.

The n positions of a query are the states, with energies -z_j, z the scores:

.. math:: Z = \sum_j e^{\beta z_j}, \quad p_j = e^{\beta z_j}/Z, \quad F = -\ln Z/\beta, \quad
          U = -\sum_j p_j z_j, \quad S = -\sum_j p_j \ln p_j, \quad C = \beta^2 \mathrm{Var}_p(z).

For independent Gaussian scores of standard deviation σ this is the random energy model (Derrida,
Phys. Rev. B 24, 2613 (1981)). Below its freezing point β_f = √(2 ln n)/σ the entropy is
S = ln n - β²σ²/2; beyond it a finite number of positions holds the weight.

W. Chuang ("Recognizing Self-Attention as a Stack of Ising Models") writes weights exp(+βz) in the
equations 2 and 3, and the opposite sign in his equation 11; the signs here are those of 2 and 3,
with which attention prefers high scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qattn.thermodynamics.temperatures import as_betas

Table = Float[Tensor, "*queries betas"]


@dataclass(frozen=True, eq=False)
class SoftmaxCurves:
    """Thermodynamic quantities of softmax attention against β, in float64; exact.

    A query without positions has ln Z = -∞, F = ∞, and 0 else.

    Attributes:
        betas: The inverse temperatures, in units that multiply the scores.
        num_positions: Number n of positions that each query may attend to.
        log_Z: ln Z.
        free_energy: F = -ln Z/β.
        energy: U = ⟨-z⟩.
        entropy: S, in nats: ln n at β = 0, and 0 where one position holds all the weight.
        heat_capacity: C = β² Var(z).
        participation: 1/Σ p², the number of positions that share the weight.
        largest_weight: max_j p_j.
    """

    betas: Float[Tensor, " betas"]
    num_positions: Int[Tensor, "*queries"]
    log_Z: Table
    free_energy: Table
    energy: Table
    entropy: Table
    heat_capacity: Table
    participation: Table
    largest_weight: Table

    @property
    def sizes(self) -> Int[Tensor, "*queries"]:
        """What a heat capacity is divided by to be compared between queries: n."""
        return self.num_positions


@torch.no_grad()
def softmax_curves(
    scores: Float[Tensor, "*queries positions"],
    betas: Float[Tensor, " betas"] | Sequence[float],
    mask: Bool[Tensor, "*#queries positions"] | None = None,
) -> SoftmaxCurves:
    r"""Thermodynamics of softmax(β·scores) against β.

    Args:
        scores: Scores z of the positions of each query; -∞ for a position that is absent.
        betas: Inverse temperatures, ascending from 0 or more.
        mask: True at the positions that are there; None for all.

    Raises:
        ValueError: `betas` do not ascend from 0 or more.

    Two positions whose scores differ by 2 are a two-level system:

    >>> curves = softmax_curves(torch.tensor([1.0, -1.0]), [0.0, 1.0])
    >>> curves.entropy, curves.participation
    (tensor([0.6931, 0.3653], dtype=torch.float64), tensor([2.0000, 1.2658], dtype=torch.float64))
    """
    betas = as_betas(betas)
    there = scores > -torch.inf
    if mask is not None:
        there = there & mask
    # An absent position has weight 0 also at β = 0.
    z = scores.detach().double().masked_fill(~there, 0).cpu().unsqueeze(-2)
    there = there.cpu()
    exponents = (betas[:, None] * z).masked_fill(~there.unsqueeze(-2), -torch.inf)
    log_Z = exponents.logsumexp(-1)
    p = exponents.softmax(-1).nan_to_num(0)
    mean = (p * z).sum(-1)
    variance = (p * (z - mean.unsqueeze(-1)).square()).sum(-1)
    squares = p.square().sum(-1)
    return SoftmaxCurves(
        betas,
        there.sum(-1),
        log_Z,
        -log_Z / betas,
        -mean,
        -torch.special.xlogy(p, p).sum(-1),
        betas.square() * variance,
        torch.where(squares > 0, 1 / squares, 0),
        p.amax(-1),
    )
