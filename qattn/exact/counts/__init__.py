r"""The engine of a potential on counts: exact for any potential, in O(n K) a query.

.. math:: Z \propto \sum_{c \le K} \varphi(c)\, e_c(x), \qquad
          \prod_j (1 + x_j y) = \sum_c e_c(x)\, y^c, \qquad x_j = e^{2h_j}

The elementary symmetric polynomials e_c come from a balanced tree of products
(:mod:`qattn.exact.counts.product_tree`), and the weight of a position from the product of all
others, its cofactor: sums of positive terms, so that an occupation has a relative error of rounding
however small it is. The tilt of :mod:`qattn.exact.counts.potential` keeps them in the range of a
float; an answer that does not hold in float32 is computed in float64, and one that does not hold
there in log space.

The derivatives of ⟨n⟩ in the direction of its gradient g are a second pass through the same tree:
with f(n) = Σ_j g_j (n_j - ⟨n_j⟩), the scores' are Cov(f, n_j) and the potential's E[f; count = c].

For this recursion see Swersky et al., "Cardinality Restricted Boltzmann Machines", NeurIPS 2012.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor

from qattn.couplings import Couplings
from qattn.couplings.base import check_finite
from qattn.exact.counts import log_space
from qattn.exact.counts.moments import moments
from qattn.exact.counts.potential import Problem, problem, tilt
from qattn.exact.engine import Solution

BLOCK = 2**18
"""Largest number of pairs of a position and a query that are solved at once."""


def forward(
    h: Float[Tensor, "groups n queries"], couplings: Couplings, lengths: Int[Tensor, "#g queries"]
) -> Solution:
    """Occupations and log Z."""
    up, (log_Z, u) = torch.zeros_like(h), h.new_zeros(2, h.shape[0], h.shape[2])
    accurate = torch.ones((), dtype=torch.bool, device=h.device)
    for block, models in _blocks(h, couplings, lengths):
        u[:, block] = tilt(models)
        found = moments(models, u[:, block])
        accurate &= found.accurate(models)
        _store(models, found.up, found.log_Z(models, u[:, block]), up, log_Z, block)
    if bool(accurate) or h.dtype != torch.float64:
        return Solution(up, log_Z, accurate, (u,))
    for block, models in _blocks(h, couplings, lengths):
        n_up, log_Z_up = log_space.solve(models)
        _store(models, n_up, log_Z_up - models.h.sum(1), up, log_Z, block)
    return Solution(up, log_Z, torch.ones_like(accurate), ())


def backward(
    grad_up: Float[Tensor, "groups n queries"] | None,
    grad_log_Z: Float[Tensor, "groups queries"] | None,
    h: Float[Tensor, "groups n queries"],
    couplings: Couplings,
    lengths: Int[Tensor, "#g queries"],
    solution: Solution,
) -> tuple[Float[Tensor, "groups n queries"], Tensor]:
    """Gradients in h and in log φ; computes the tree again."""
    grad_h, grad_values = torch.zeros_like(h), torch.zeros_like(couplings.values)
    for block, models in _blocks(h, couplings, lengths):
        n, present = models.h.shape[1], models.present
        # Nothing from absent spins, nor from a query whose log Z is -∞ or NaN.
        g_up = g_log_Z = None
        if grad_up is not None:
            g_up = torch.where(present, grad_up[:, :n, block], 0.0)
        if grad_log_Z is not None:
            g_log_Z = grad_log_Z[:, block].masked_fill(models.stuck, 0.0)
        if not solution.saved:
            in_scores, in_log_phi = log_space.gradients(models, g_up, g_log_Z)
        else:
            found = moments(models, solution.saved[0][:, block])
            if g_up is not None:
                in_scores, in_log_phi = found.gradients(g_up)
            else:
                assert g_log_Z is not None
                in_scores, in_log_phi = (
                    x * g_log_Z.unsqueeze(1) for x in (found.up, found.counts())
                )
        in_h = 2 * in_scores
        if g_log_Z is not None:
            in_h -= g_log_Z.unsqueeze(1)
        grad_h[:, :n, block] = in_h.masked_fill(~present, 0.0)
        grad_values[:, : in_log_phi.shape[1]] += in_log_phi.sum(2)
    return grad_h, grad_values


def draw(
    h: Float[Tensor, "groups n queries"],
    couplings: Couplings,
    lengths: Int[Tensor, "#g queries"],
    num_reads: int,
    generator: torch.Generator | None,
) -> Int8[Tensor, "groups queries reads n"]:
    """Independent reads, in float64."""
    check_finite("h", h)
    groups, n, queries = h.shape
    spins = torch.zeros(groups, queries, num_reads, n, dtype=torch.int8, device=h.device)
    for block, models in _blocks(h.double(), couplings.to(torch.float64), lengths):
        spins[:, block, :, : models.h.shape[1]] = log_space.draw(models, num_reads, generator)
    return spins


def _blocks(
    h: Float[Tensor, "groups n queries"], couplings: Couplings, lengths: Int[Tensor, "#g queries"]
) -> Iterator[tuple[slice, Problem]]:
    """Queries in blocks that bound the memory, each with as many positions as its longest has."""
    groups, n, queries = h.shape
    size = max(1, BLOCK // max(1, groups * n))
    for start in range(0, queries, size):
        block = slice(start, min(start + size, queries))
        longest = int(lengths[:, block].max()) if lengths.numel() else 0
        yield block, problem(h[:, :longest, block], couplings, lengths[:, block])


def _store(
    models: Problem, n_up: Tensor, log_Z_found: Tensor, up: Tensor, log_Z: Tensor, block: slice
) -> None:
    """Put a block's moments in their places: NaN of a query with NaN, log Z = -∞ of Z = 0."""
    n_up = n_up.masked_fill(models.broken.unsqueeze(1), torch.nan)
    up[:, : n_up.shape[1], block] = n_up.masked_fill(~models.present, 0.0)
    log_Z_found = log_Z_found.masked_fill(models.stuck, -torch.inf)
    log_Z[:, block] = log_Z_found.masked_fill(models.broken, torch.nan)
