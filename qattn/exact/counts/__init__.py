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

from qattn import kernels
from qattn.couplings import Couplings
from qattn.couplings.base import check_finite
from qattn.exact.counts import compiled, log_space
from qattn.exact.counts.moments import moments
from qattn.exact.counts.potential import Models, by_group, flat, tilt
from qattn.exact.counts.potential import models as models_of
from qattn.exact.engine import Solution

__all__ = ["backward", "draw", "forward"]

BLOCK = {"cpu": 2**17, "cuda": 2**21}
"""Pairs of a position and a query that are solved at once, at about 200 B each."""
WIDTH = 256
"""Queries of all groups that are at least solved at once: the innermost axis of the arithmetic."""


def forward(
    h: Float[Tensor, "groups n queries"], couplings: Couplings, lengths: Int[Tensor, "#g queries"]
) -> Solution:
    """Occupations and log Z."""
    if kernels.usable(h, couplings.values):
        return compiled.forward(h, couplings, lengths)
    up, (log_Z, u) = torch.zeros_like(h), h.new_zeros(2, h.shape[0], h.shape[2])
    accurate = torch.ones((), dtype=torch.bool, device=h.device)
    for block, models in _blocks(h, couplings, lengths):
        tilted = tilt(models)
        found = moments(models, tilted)
        accurate &= found.accurate(models)
        u[:, block] = tilted.unflatten(0, (len(h), -1))
        _store(models, found.up, found.log_Z(models, tilted), up[..., block], log_Z[:, block])
    if bool(accurate) or h.dtype != torch.float64:
        return Solution(up, log_Z, accurate, (u,))
    for block, models in _blocks(h, couplings, lengths):
        _store(models, *log_space.solve(models), up[..., block], log_Z[:, block])
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
    if solution.saved and kernels.usable(h, couplings.values):
        return compiled.backward(grad_up, grad_log_Z, h, couplings, lengths, *solution.saved)
    grad_h, grad_values = torch.zeros_like(h), torch.zeros_like(couplings.values)
    for block, models in _blocks(h, couplings, lengths):
        n = len(models.h)
        # Nothing from absent spins, nor from a query whose log Z is -∞.
        g_up = None if grad_up is None else flat(grad_up[:, :n, block])
        g_up = None if g_up is None else torch.where(models.present, g_up, 0.0)
        g_log_Z = None if grad_log_Z is None else grad_log_Z[:, block].flatten()
        g_log_Z = None if g_log_Z is None else g_log_Z.masked_fill(models.stuck, 0.0)
        if not solution.saved:
            in_scores, in_log_phi = log_space.gradients(models, g_up, g_log_Z)
        else:
            found = moments(models, solution.saved[0][:, block].flatten())
            in_scores, in_log_phi = found.gradients(g_up, g_log_Z)
        in_h = 2 * in_scores if g_log_Z is None else 2 * in_scores - g_log_Z
        in_h, in_log_phi = (x.masked_fill(models.broken, torch.nan) for x in (in_h, in_log_phi))
        grad_h[:, :n, block] = by_group(in_h.masked_fill(~models.present, 0.0), len(h))
        grad_values[:, : len(in_log_phi)] += by_group(in_log_phi, len(h)).sum(2)
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
        found = log_space.draw(models, num_reads, generator)
        spins[:, block, :, : len(models.h)] = found.unflatten(0, (groups, -1))
    return spins


def _blocks(
    h: Float[Tensor, "groups n queries"], couplings: Couplings, lengths: Int[Tensor, "#g queries"]
) -> Iterator[tuple[slice, Models]]:
    """Queries in blocks that bound the memory, each with as many positions as its longest has."""
    groups, n, queries = h.shape
    pairs = max(BLOCK.get(h.device.type, BLOCK["cpu"]), WIDTH * n)
    size = max(1, pairs // max(1, groups * n))
    for start in range(0, queries, size):
        block = slice(start, min(start + size, queries))
        longest = int(lengths[:, block].max())
        yield block, models_of(h[:, :longest, block], couplings, lengths[:, block])


def _store(
    models: Models,
    found_up: Float[Tensor, "n models"],
    found_log_Z: Float[Tensor, " models"],
    up: Float[Tensor, "groups _ queries"],
    log_Z: Float[Tensor, "groups queries"],
) -> None:
    """Put a block's moments in their places: NaN of a query with NaN, log Z = -∞ of Z = 0."""
    found_up = found_up.masked_fill(models.broken, torch.nan).masked_fill(~models.present, 0.0)
    up[:, : len(found_up)] = by_group(found_up, len(up))
    found_log_Z = found_log_Z.masked_fill(models.stuck, -torch.inf)
    log_Z.copy_(found_log_Z.masked_fill(models.broken, torch.nan).unflatten(0, (len(up), -1)))
