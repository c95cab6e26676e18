r"""The engine of rank-one couplings J_jk = ±U_jU_k, at any number of spins: quadrature.

A Gaussian integral makes the spins independent: see :mod:`qattn.exact.quadrature.grid` for its
nodes and their error, :mod:`qattn.exact.quadrature.sums` for the moments.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor

from qattn.couplings import Couplings, LowRank
from qattn.exact.engine import Solution, present
from qattn.exact.quadrature import bound as bounds
from qattn.exact.quadrature import compiled, few_spins, reads, sums
from qattn.exact.quadrature.grid import Grid, Spins, grid_of

__all__ = ["backward", "draw", "error_bound", "forward"]


def forward(
    h: Float[Tensor, "groups n queries"], couplings: Couplings, lengths: Int[Tensor, "#groups q"]
) -> Solution:
    """Occupations and log Z.

    Raises:
        ValueError: Couplings of negative sign are so strong that float64 does not resolve Z.
    """
    assert isinstance(couplings, LowRank)
    if compiled.usable(h, couplings):
        solution = compiled.forward(h, couplings, lengths)
        _spread_what_is_not_finite(solution.up, solution.log_Z, solution.saved[0], lengths)
        return solution
    sign = couplings.sign
    up, log_Z = torch.zeros_like(h), h.new_zeros(h.shape[0], h.shape[2])
    grid = Grid(log_Z.clone(), log_Z.clone(), torch.zeros_like(log_Z, dtype=torch.long))
    accurate = torch.ones_like(log_Z, dtype=torch.bool)
    for q, n, spins in _blocks(h, couplings, lengths):
        found = grid_of(spins, sign)
        up[:, :n, q], log_Z[:, q], accurate[:, q] = sums.moments(spins, found, sign)
        for whole, part in zip(grid, found, strict=True):
            whole[:, q] = part
    _spread_what_is_not_finite(up, log_Z, grid.origin, lengths)
    if h.dtype != torch.float64 or bool(accurate.all()):
        return Solution(up, log_Z, accurate.all(), tuple(grid))
    few = ~accurate & (lengths <= few_spins.MOST).to(h.device)
    if not bool((accurate | few).all()):
        raise ValueError(
            "Argument `couplings` is a LowRank of negative sign whose U is so large that Z is less "
            f"than {sums.SMALLEST_SIGN[h.dtype]} of the sum of its terms' sizes, for a query of "
            f"more than {few_spins.MOST} spins: take Cardinality.competitive where U is constant, "
            "or a sampling backend."
        )
    few_spins.solve(h, couplings, lengths, few, up, log_Z)
    return Solution(up, log_Z, torch.ones_like(few.any()), (*grid, few))


def backward(
    grad_up: Float[Tensor, "groups n queries"] | None,
    grad_log_Z: Float[Tensor, "groups queries"] | None,
    h: Float[Tensor, "groups n queries"],
    couplings: Couplings,
    lengths: Int[Tensor, "#groups queries"],
    solution: Solution,
) -> tuple[Float[Tensor, "groups n queries"], Float[Tensor, "groups n"]]:
    """Gradients in h and U."""
    assert isinstance(couplings, LowRank)
    if compiled.usable(h, couplings):
        return compiled.backward(grad_up, grad_log_Z, h, couplings, lengths, solution.saved)
    sign = couplings.sign
    grad_h, grad_U = torch.zeros_like(h), torch.zeros_like(couplings.values)
    few = solution.saved[3] if len(solution.saved) > 3 else None
    if few is not None and bool(few.any()):
        # Nothing from their sums over nodes.
        outer = grad_up, grad_log_Z
        grad_up = None if grad_up is None else grad_up.masked_fill(few.unsqueeze(1), 0.0)
        grad_log_Z = None if grad_log_Z is None else grad_log_Z.masked_fill(few, 0.0)
    for q, n, spins in _blocks(h, couplings, lengths):
        grid = Grid(*(x[:, q] for x in solution.saved[:3]))
        up = None if grad_up is None else grad_up[:, :n, q]
        log_Z = None if grad_log_Z is None else grad_log_Z[:, q]
        grad_h[:, :n, q], part = sums.gradients(up, log_Z, spins, grid, sign)
        grad_U[:, :n] += part.sum(2)
    if few is not None and bool(few.any()):
        of_few = few_spins.gradients(*outer, h, couplings, lengths, few)
        grad_h = torch.where(few.unsqueeze(1), of_few[0], grad_h)
        grad_U += of_few[1]
    return grad_h, grad_U


def error_bound(
    h: Float[Tensor, "groups n queries"],
    couplings: Couplings,
    lengths: Int[Tensor, "#groups queries"],
    solution: Solution,
) -> Float[Tensor, "groups queries"]:
    """Largest error of the occupations and of log Z of a solution, besides rounding."""
    assert isinstance(couplings, LowRank)
    bound = torch.zeros_like(solution.log_Z)
    for q, _, spins in _blocks(h.double(), couplings.to(torch.float64), lengths):
        grid = Grid(*(x[:, q] for x in solution.saved[:3]))
        bound[:, q] = bounds.error_bound(spins, grid, couplings.sign).to(bound.dtype)
    # Of queries that were enumerated there are no nodes.
    return bound.masked_fill(solution.saved[3], 0.0) if len(solution.saved) > 3 else bound


def draw(
    h: Float[Tensor, "groups n queries"],
    couplings: Couplings,
    lengths: Int[Tensor, "#groups queries"],
    num_reads: int,
    generator: torch.Generator | None,
) -> Int8[Tensor, "groups queries reads n"]:
    """Independent reads."""
    assert isinstance(couplings, LowRank)
    method = reads.mixed if couplings.sign > 0 else reads.accepted
    if couplings.sign < 0:  # a small Z is no rounding of float32
        h, couplings = h.double(), couplings.to(torch.float64)
    G, n, Q = h.shape
    spins = torch.ones(G, Q, num_reads, n, dtype=torch.int8, device=h.device)
    for q, m, block in _blocks(h, couplings, lengths):
        spins[:, q, :, :m] = method(block, num_reads, generator)
    return spins


def _spread_what_is_not_finite(
    up: Float[Tensor, "groups n queries"],
    log_Z: Float[Tensor, "groups queries"],
    origin: Float[Tensor, "groups queries"],
    lengths: Int[Tensor, "#groups queries"],
) -> None:
    """Make all of a query NaN, and its gradients by its nodes, where h or U is NaN or infinite."""
    wrong = ~log_Z.isfinite()
    if bool(wrong.any()):
        there = present(up.shape[1], lengths, up.device)
        up.masked_fill_(wrong.unsqueeze(1) & there, torch.nan)
        for value in (log_Z, origin):
            value.masked_fill_(wrong, torch.nan)


def _blocks(
    h: Float[Tensor, "groups n queries"], couplings: Couplings, lengths: Int[Tensor, "#groups q"]
) -> Iterator[tuple[slice, int, Spins]]:
    """Queries a few at a time: which, the number of spins of the longest, and the spins."""
    G, n, Q = h.shape
    step = max(1, sums.chunk(h) // max(1, G * n))
    for start in range(0, Q, step):
        q = slice(start, min(start + step, Q))
        m = int(lengths[:, q].max())
        if m == 0:
            continue
        there = present(m, lengths[:, q], h.device).expand(G, -1, -1)
        U = couplings.values[:, :m, None].expand_as(there)
        fields, U = torch.where(there, h[:, :m, q], 0.0), torch.where(there, U, 0.0)
        yield q, m, Spins(fields, U, there)
