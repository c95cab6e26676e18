"""Moments of a block of queries, and their derivatives, from the tree of products."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from qattn.exact.counts import product_tree
from qattn.exact.counts.potential import Problem


class Moments(NamedTuple):
    """What the tree of a block holds.

    Attributes:
        levels: Its products, from the leaves (q, p) of each position to the root.
        cofactors: Of each level.
        phi: φ(c) e^{uc}, with maximum 1.
        scale: Logarithm of what φ was divided by.
        Z: Σ_c P_u(c) φ(c) e^{uc}.
        up: p(s_j = +1).
        down: p(s_j = -1).
    """

    levels: list[product_tree.Level]
    cofactors: list[product_tree.Level]
    phi: Float[Tensor, "g counts q"]
    scale: Float[Tensor, "g q"]
    Z: Float[Tensor, "g q"]
    up: Float[Tensor, "g n q"]
    down: Float[Tensor, "g n q"]

    def log_Z(self, problem: Problem, u: Float[Tensor, "g q"]) -> Float[Tensor, "g q"]:
        """Log Z of the spins."""
        h, present = problem.h, problem.present
        # log(e^{h-u} + e^{-h}) of each position, which the leaves were divided by.
        free = torch.maximum(h - u.unsqueeze(1), -h)
        free += (u.unsqueeze(1) - 2 * h).abs_().neg_().exp_().log1p_()
        return self.Z.log() + self.scale + (free * present).sum(1)

    def accurate(self, problem: Problem) -> Bool[Tensor, ""]:
        """Whether what underflowed is below the rounding of Z and of every occupation."""
        limits = torch.finfo(self.Z.dtype)
        enough = 8 * limits.tiny / limits.eps
        # Of a query that allows no position up, every occupation is 0.
        none = (problem.log_phi[:, 1:] == -torch.inf).all(1)
        zero = ~problem.present | (none | problem.broken).unsqueeze(1)
        least = (self.up * self.Z.unsqueeze(1)).masked_fill(zero, 1.0)
        return (least > enough).all() & ((enough < self.Z) | problem.broken).all()

    def gradients(
        self, g: Float[Tensor, "g n q"]
    ) -> tuple[Float[Tensor, "g n q"], Float[Tensor, "g counts q"]]:
        r"""Σ_j g_j times the derivatives of ⟨n_j⟩ in the scores and in each query's log φ."""
        # The weight of a state times f = Σ_j g_j (n_j - ⟨n_j⟩): the derivative of the weights in
        # the direction of f, position by position.
        q, p = self.levels[0][:, : g.shape[1]].unbind(2)
        leaves = torch.stack([-g * self.up * q, g * self.down * p], 2)
        root = torch.zeros_like(self.cofactors[-1])
        tangents = product_tree.product_tangents(leaves, self.levels, self.phi.shape[1] - 1)
        change = product_tree.cofactor_tangents(root, self.levels, tangents, self.cofactors)
        n = g.shape[1]
        # E[f; n_j = 1] or -E[f; n_j = 0], whichever has the smaller terms.
        per_state = leaves * self.cofactors[0][:, :n] + self.levels[0][:, :n] * change[:, :n]
        down, up = (per_state / self.Z[:, None, None]).unbind(2)
        covariance = torch.where(self.up < self.down, up, -down)
        return covariance, self._counts(tangents[-1])

    def counts(self) -> Float[Tensor, "g counts q"]:
        """The distribution of the count."""
        return self._counts(self.levels[-1])

    def _counts(self, root: product_tree.Level) -> Float[Tensor, "g counts q"]:
        root = root[:, 0, : self.phi.shape[1]]
        return root * self.phi[:, : root.shape[1]] / self.Z.unsqueeze(1)


def moments(problem: Problem, u: Float[Tensor, "g q"]) -> Moments:
    """The tree at tilt u."""
    counts = torch.arange(problem.log_phi.shape[1], device=u.device, dtype=u.dtype)[:, None]
    phi = torch.addcmul(problem.log_phi, counts, u.unsqueeze(1))
    scale = phi.amax(1)
    phi = phi.sub_(scale.unsqueeze(1)).exp_()
    scores = problem.scores - u.unsqueeze(1)
    leaves = torch.stack([(-scores).sigmoid_(), scores.sigmoid_()], 2)
    levels = product_tree.products(leaves, phi.shape[1] - 1)
    root = levels[-1][:, 0]
    # Counts for which there are too few positions, or which the tree has and φ has not.
    root_phi = F.pad(phi, (0, 0, 0, root.shape[1] - phi.shape[1]))
    Z = (root * root_phi).sum(1)
    cofactors = product_tree.cofactors(root_phi.unsqueeze(1), levels)
    n = scores.shape[1]
    down, up = (leaves * cofactors[0][:, :n] / Z[:, None, None]).unbind(2)
    return Moments(levels, cofactors, phi, scale, Z, up, down)
