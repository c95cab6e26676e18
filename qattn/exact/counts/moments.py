"""Moments of a block of queries, and their derivatives, from the tree of products."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from qattn.exact.counts import product_tree
from qattn.exact.counts.potential import Models
from qattn.exact.counts.product_tree import Level


class Moments(NamedTuple):
    """What the tree of a block holds.

    Attributes:
        levels: Its products, from the leaves (q, p) of each position to the root.
        cofactors: Of each level.
        phi: φ(c) e^{uc}, with maximum 1.
        scale: Logarithm of what that was divided by.
        Z: Σ_c P_u(c) φ(c) e^{uc}.
        up: p(s_j = +1).
        down: p(s_j = -1).
    """

    levels: list[Level]
    cofactors: list[Level]
    phi: Float[Tensor, "counts models"]
    scale: Float[Tensor, " models"]
    Z: Float[Tensor, " models"]
    up: Float[Tensor, "n models"]
    down: Float[Tensor, "n models"]

    def log_Z(self, models: Models, u: Float[Tensor, " models"]) -> Float[Tensor, " models"]:
        """Log Z of the spins."""
        # log(e^{h-u} + e^{-h}) of each position, which the leaves were divided by.
        free = torch.maximum(models.h - u, -models.h)
        free += (u - 2 * models.h).abs_().neg_().exp_().log1p_()
        return self.Z.log() + self.scale + (free * models.present).sum(0)

    def accurate(self, models: Models) -> Bool[Tensor, ""]:
        """Whether what underflowed is below the rounding of Z and of every occupation."""
        # A weight that is only small, p times a cofactor that holds, needs no more than to exist.
        p, cofactor = self.levels[0][: len(self.up), 1], self.cofactors[0][: len(self.up), 1]
        least = torch.minimum(cofactor, p * cofactor * ROOM)
        # Of a query that allows no position up, every occupation is 0.
        none = (models.log_phi[1:] == -torch.inf).all(0)
        least = least.masked_fill(~models.present | none | models.broken, 1.0)
        Z = self.Z.masked_fill(models.broken, 1.0)
        enough = smallest(Z.dtype)
        return (least > enough).all() & (enough < Z).all()

    def gradients(
        self, g_up: Float[Tensor, "n models"] | None, g_log_Z: Float[Tensor, " models"] | None
    ) -> tuple[Float[Tensor, "n models"], Float[Tensor, "counts models"]]:
        r"""Derivatives of Σ_j g_j ⟨n_j⟩, or of g log Z, in the scores and in each log φ(c)."""
        if g_log_Z is not None:
            return self.up * g_log_Z, self._by_count(self.levels[-1]) * g_log_Z
        assert g_up is not None
        # The weight of a state times f = Σ_j g_j (n_j - ⟨n_j⟩): the derivative of the weights in
        # the direction of f, position by position.
        n = len(g_up)
        q, p = self.levels[0][:n].unbind(1)
        leaves = torch.stack([-g_up * self.up * q, g_up * self.down * p], 1)
        tangents = product_tree.product_tangents(leaves, self.levels, len(self.phi) - 1)
        change = product_tree.cofactor_tangents(self.levels, tangents, self.cofactors)
        # E[f; n_j = 1] or -E[f; n_j = 0], whichever has the smaller terms.
        f = leaves * self.cofactors[0][:n] + self.levels[0][:n] * change[:n]
        f_down, f_up = (f / self.Z).unbind(1)
        return torch.where(self.up < self.down, f_up, -f_down), self._by_count(tangents[-1])

    def _by_count(self, root: Level) -> Float[Tensor, "_ models"]:
        """What each count contributes to the sum over states that ends in `root`."""
        return root[0, : len(self.phi)] * self.phi / self.Z


ROOM = 2.0**20
"""A weight may be smaller than what cofactors need by this factor."""


def smallest(dtype: torch.dtype) -> float:
    """Sums of positive terms above this lose less than their rounding to what underflows."""
    limits = torch.finfo(dtype)
    return 64 * limits.tiny / limits.eps


def moments(models: Models, u: Float[Tensor, " models"]) -> Moments:
    """The tree at tilt u."""
    counts = torch.arange(len(models.log_phi), device=u.device, dtype=u.dtype)[:, None]
    phi = torch.addcmul(models.log_phi, counts, u)
    scale = phi.amax(0)
    phi = phi.sub_(scale).exp_()
    scores = models.scores - u
    leaves = torch.stack([(-scores).sigmoid_(), scores.sigmoid_()], 1)
    levels = product_tree.products(leaves, len(phi) - 1)
    # A root of one position has two coefficients, also where φ has one.
    root = levels[-1]
    root_phi = F.pad(phi, (0, 0, 0, root.shape[1] - len(phi))).unsqueeze(0)
    Z = (root * root_phi).sum((0, 1))
    cofactors = product_tree.cofactors(root_phi, levels)
    down, up = (leaves * cofactors[0][: len(leaves)] / Z).unbind(1)
    return Moments(levels, cofactors, phi, scale, Z, up, down)
