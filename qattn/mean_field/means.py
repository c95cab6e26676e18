r"""Means of the spins in the variables of the fixed point: θ, with m = tanh θ."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Means:
    r"""Means m = tanh θ of the present spins, and what follows from them.

    In θ, variances of nearly frozen spins keep their digits, which 1 - m² would lose.

    Attributes:
        theta: θ, finite also where a spin is absent.
        present: Whether a query has the spin.
        m: Means; 0 at absent spins.
        v: Variances 1 - m²; 0 at absent spins.
        root: √v.
    """

    theta: Float[Tensor, "groups queries n"]
    present: Bool[Tensor, "groups queries n"]
    m: Float[Tensor, "groups queries n"]
    v: Float[Tensor, "groups queries n"]
    root: Float[Tensor, "groups queries n"]

    @classmethod
    def of(
        cls, theta: Float[Tensor, "groups queries n"], present: Bool[Tensor, "groups queries n"]
    ) -> "Means":
        """From θ."""
        root = present / theta.cosh()
        return cls(theta, present, theta.tanh() * present, root * root, root)

    def distance(self, m: Float[Tensor, "groups queries n"]) -> Float[Tensor, "groups queries"]:
        """Rms difference of other means, 0 at absent spins, over the present spins."""
        count = self.present.sum(-1).clamp_min(1)
        return ((m - self.m).square().sum(-1) / count).sqrt()

    def between(self, J: Float[Tensor, "groups n n"]) -> Float[Tensor, "groups queries n n"]:
        """√v_i J_ij √v_j of each query: couplings between spins of variance 1."""
        return self.root.unsqueeze(-1) * J.unsqueeze(1) * self.root.unsqueeze(-2)


def diagonal(values: Float[Tensor, "groups queries n"]) -> Float[Tensor, "groups queries n n"]:
    """Matrices with these diagonals."""
    return torch.diag_embed(values)
