r"""Moments and their derivatives as sums over nodes, in plain PyTorch: the reference.

At node k the spins are independent, with occupations n_jk = 1/(1 + exp(-2h_j - 2ξ_kU_j)). With the
normalised weights w_k ∝ exp(-σξ_k²/2) Π_j 2cosh(h_j + ξ_kU_j),

.. math:: \langle n_j \rangle = \sum_k w_k n_{jk}, \qquad
          \frac{\partial}{\partial h_j} \sum_i g_i \langle n_i \rangle
          = 2 \sum_k w_k \big( g_j n_{jk} (1 - n_{jk}) + (f_k - \bar f) n_{jk} \big), \qquad
          f_k = \sum_j g_j n_{jk}, \quad \bar f = \sum_k w_k f_k ,

and ∂/∂U_j is the same sum with ξ_k as a further factor, less Σ_k w_k (f_k - f̄) ξ_k. Occupations and
derivatives in h are sums of terms in proportion to n_jk, so that small ones have a small relative
error. For σ = -1 all of it is complex, and the real part of a sum over y ≥ 0 with weights doubled
at y > 0 is the whole.
"""

from collections.abc import Iterator
from math import exp, log, pi
from typing import NamedTuple

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor
from torch.nn import functional as F

from qattn.exact.quadrature.grid import Grid, Spins

CHUNK = {"cpu": 1 << 16, "cuda": 1 << 24}
"""Elements of the largest temporary tensor: on the CPU it should stay in the cache."""

NEGLIGIBLE = 60.0
"""Weights below e^-60 of the largest are 0: arithmetic with denormal numbers is slow."""

SMALLEST_SIGN = {torch.float32: 0.02, torch.float64: 1e-6}
"""Least |Σw|/Σ|w| of complex weights at which rounding does not matter."""

Weights = Float[Tensor, "nodes groups queries"] | Complex[Tensor, "nodes groups queries"]


class Reference(NamedTuple):
    """The spins at the origin of the grid, from which those at a node differ by a factor."""

    spins: Spins
    grid: Grid
    sign: int
    b: Float[Tensor, "groups n queries"]
    up: Float[Tensor, "groups n queries"]
    down: Float[Tensor, "groups n queries"]

    @classmethod
    def of(cls, spins: Spins, grid: Grid, sign: int) -> "Reference":
        """Occupations of the spins of fields b = h + origin·U."""
        b = spins.h + grid.origin.unsqueeze(1) * spins.U
        return cls(spins, grid, sign, b, (2 * b).sigmoid(), (-2 * b).sigmoid())

    @property
    def num_nodes(self) -> int:
        """Nodes of the query that has most."""
        return int(self.grid.number.max())

    def offsets(self, nodes: slice) -> Weights:
        """ξ_k - origin."""
        k = torch.arange(nodes.start, nodes.stop, dtype=self.b.dtype, device=self.b.device)
        distance = k[:, None, None] * self.grid.step
        return distance if self.sign > 0 else 1j * distance

    def chunks(self) -> Iterator[slice]:
        """Numbers of nodes that are treated at a time."""
        size = max(1, chunk(self.b) // max(1, self.b.numel()))
        for start in range(0, self.num_nodes, size):
            yield slice(start, min(start + size, self.num_nodes))

    def occupations(self, nodes: slice) -> Tensor:
        """n_jk, (nodes, groups, n, queries); 0 at absent spins."""
        if self.sign > 0:
            shift = 2 * self.offsets(nodes).unsqueeze(2) * self.spins.U
            n = (2 * self.b + shift).sigmoid()
        else:
            cosine, sine, square = self._turned(nodes)
            up = self.up / square
            n = torch.complex(up * (self.up + self.down * cosine), up * self.down * sine)
        return n * self.spins.present

    def log_ratios(self, nodes: slice) -> Float[Tensor, "nodes groups queries"]:
        """Σ_j log(cosh(h_j + ξ_kU_j) / cosh b_j), for real nodes: sums of small terms."""
        shift = self.offsets(nodes).unsqueeze(2) * self.spins.U
        up, down = F.logsigmoid(2 * self.b), F.logsigmoid(-2 * self.b)
        return torch.logaddexp(up + shift, down - shift).sum(2, dtype=torch.float64)

    def log_ceiling(self) -> Float[Tensor, "groups queries"]:
        """What in log Z does not depend on the node: all but ∫ of the weights relative to b's.

        For σ = -1 an upper bound of log Z, as if every state had (a - c)² = 0.
        """
        size = self.b.double().abs()
        log_cosh = torch.where(self.spins.present, size + torch.log1p((-2 * size).exp()), 0.0)
        diagonal = (self.spins.U.double() ** 2).sum(1)  # which J does not have
        return log_cosh.sum(1) - self.sign * (diagonal + self.grid.origin.double() ** 2) / 2

    def weights(self) -> tuple[Weights, Float[Tensor, "groups queries"], Bool[Tensor, "g q"]]:
        """w_k; log Z, and whether neither is a small rest of large numbers."""
        origin, step = self.grid.origin.double(), self.grid.step.double()
        log_Z = self.log_ceiling() + (step.log() - log(2 * pi) / 2)
        offsets = torch.cat([self.offsets(nodes) for nodes in self.chunks()])
        if self.sign > 0:
            x = offsets.double()
            log_w = torch.cat([self.log_ratios(nodes) for nodes in self.chunks()])
            log_w = log_w - x * (origin + x / 2)
            highest = log_w.amax(0)
            w = (log_w - highest).exp().masked_fill(log_w < highest - NEGLIGIBLE, 0.0)
            total = w.sum(0)
            sound = torch.ones_like(total, dtype=torch.bool)
            return (w / total).to(self.b.dtype), log_Z + highest + total.log(), sound
        y, U = offsets.imag.double(), self.spins.U.double()
        # Π_j cosh(b_j + iyU_j)/cosh b_j = exp(-iy ΣU_j) Π_j (1 - n_j + n_j exp(2iyU_j)).
        products = torch.cat([self._products(nodes) for nodes in self.chunks()])
        w = torch.polar((-(y**2) / 2).exp(), y * (origin - U.sum(1))) * products
        w = (w * torch.where(y > 0, 2.0, 1.0)).masked_fill(w.abs() < exp(-NEGLIGIBLE), 0.0)
        total = w.real.sum(0)
        sound = ~(total < SMALLEST_SIGN[self.b.dtype] * w.abs().sum(0))  # NaN is sound as NaN
        return (w / total).to(offsets.dtype), log_Z + total.log(), sound

    def _products(self, nodes: slice) -> Complex[Tensor, "nodes groups queries"]:
        cosine, sine, square = self._turned(nodes)
        angle = torch.atan2(self.up * sine, self.down + self.up * cosine)
        size = square.log().sum(2, dtype=torch.float64) / 2
        return torch.polar(size.exp(), angle.sum(2, dtype=torch.float64))

    def _turned(self, nodes: slice) -> tuple[Tensor, Tensor, Tensor]:
        """For e = exp(2iy_kU_j) its parts, and |1 - n_j + n_j e|², which is 0 at a pole of n_jk."""
        angle = 2 * self.offsets(nodes).imag.unsqueeze(2) * self.spins.U
        cosine = angle.cos()
        square = self.up**2 + self.down**2 + 2 * self.up * self.down * cosine
        return cosine, angle.sin(), square.clamp_min(torch.finfo(square.dtype).tiny)


def moments(
    spins: Spins, grid: Grid, sign: int
) -> tuple[Float[Tensor, "g n q"], Float[Tensor, "g q"], Bool[Tensor, "g q"]]:
    """Occupations, log Z, and whether a query's sums are sound."""
    at = Reference.of(spins, grid, sign)
    w, log_Z, sound = at.weights()
    up = torch.zeros_like(spins.h)
    for nodes in at.chunks():
        up += _real((w[nodes].unsqueeze(2) * at.occupations(nodes)).sum(0))
    return up, log_Z.to(up.dtype), sound


def gradients(
    grad_up: Float[Tensor, "g n q"] | None,
    grad_log_Z: Float[Tensor, "g q"] | None,
    spins: Spins,
    grid: Grid,
    sign: int,
) -> tuple[Float[Tensor, "g n q"], Float[Tensor, "g n q"]]:
    """Derivatives in h and, for each query, in U."""
    at = Reference.of(spins, grid, sign)
    w, *_ = at.weights()
    grad_h, grad_U = torch.zeros_like(spins.h), torch.zeros_like(spins.h)
    # log w_k has the derivatives 2n_jk - 1 in h_j and ξ_k(2n_jk - 1) in U_j, less their means.
    moved = torch.zeros_like(w)
    if grad_up is not None:
        for nodes in at.chunks():
            moved[nodes] = (grad_up * at.occupations(nodes)).sum(2)
        moved = w * (moved - _real((w * moved).sum(0)))
    if grad_log_Z is not None:
        # log Z has the derivative 2<n_j> - 1 in h_j.
        moved = moved + w * grad_log_Z
    for nodes in at.chunks():
        n = at.occupations(nodes)
        term = n * moved[nodes].unsqueeze(2)
        if grad_up is not None:
            term = term + w[nodes].unsqueeze(2) * grad_up * n * (1 - n)
        place = (grid.origin + at.offsets(nodes)).unsqueeze(2)
        grad_h += 2 * _real(term.sum(0))
        grad_U += 2 * _real((place * term).sum(0))
    place = _real((moved * (grid.origin + at.offsets(slice(0, len(w))))).sum(0))
    grad_U -= place.unsqueeze(1) * spins.present
    if grad_log_Z is not None:
        grad_h -= grad_log_Z.unsqueeze(1) * spins.present
        grad_U -= sign * grad_log_Z.unsqueeze(1) * spins.U
    return grad_h, grad_U


def _real(x: Tensor) -> Tensor:
    return x.real if x.is_complex() else x


def chunk(like: Tensor) -> int:
    """Elements of the largest temporary tensor where `like` is."""
    return CHUNK.get(like.device.type, CHUNK["cuda"])
