r"""Independent exact reads of rank-one couplings, at any number of spins.

σ = 1: the distribution is a mixture of independent spins, one component a node: a read draws its
node and then its spins. σ = -1: independent spins of the fields b_j at the saddle c are proposed,
and accepted with probability exp(-(a - c)²/2); what is accepted has exactly the distribution of the
model, whatever c is.
"""

import torch
from jaxtyping import Float, Int8
from torch import Tensor

from qattn.exact.quadrature.grid import Spins, grid_of
from qattn.exact.quadrature.sums import Reference

CHUNK = 1 << 20
"""Spins that are drawn at a time."""

SMALLEST_ACCEPTANCE = 1e-4
"""Least probability of acceptance with which reads are drawn."""


def mixed(
    spins: Spins, num_reads: int, generator: torch.Generator | None
) -> Int8[Tensor, "groups queries reads n"]:
    """Reads of the positive sign."""
    G, n, Q = spins.h.shape
    at = Reference.of(spins, grid_of(spins, 1), 1)
    w = at.weights()[0].movedim(0, -1)
    node = w.flatten(0, 1).multinomial(num_reads, replacement=True, generator=generator)
    x = at.grid.origin.unsqueeze(2) + node.view(G, Q, -1) * at.grid.step.unsqueeze(2)
    reads = torch.empty(G, Q, num_reads, n, dtype=torch.int8, device=w.device)
    for part in _parts(num_reads, G * Q * n):
        b = spins.h.mT.unsqueeze(2) + x[:, :, part, None] * spins.U.mT.unsqueeze(2)
        reads[:, :, part] = _independent(b, generator)
    return reads


def accepted(
    spins: Spins, num_reads: int, generator: torch.Generator | None
) -> Int8[Tensor, "groups queries reads n"]:
    """Reads of the negative sign.

    Raises:
        ValueError: Nearly every proposal would be refused.
    """
    G, n, Q = spins.h.shape
    grid = grid_of(spins, -1)
    at = Reference.of(spins, grid, -1)
    _, log_Z, sound = at.weights()
    rate = torch.where(sound, (log_Z - at.log_ceiling()).exp(), 0.0)
    if bool((rate < SMALLEST_ACCEPTANCE).any()):
        raise ValueError(
            f"Independent reads of negative LowRank couplings this strong accept only "
            f"{float(rate.min()):.1g} of the proposals: take `J=couplings.dense()` for few spins, "
            f"Cardinality.competitive where U is constant, or the backend gibbs."
        )
    reads = torch.zeros(G * Q, num_reads, n, dtype=torch.int8, device=at.b.device)
    b, U = at.b.mT.flatten(0, 1), spins.U.mT.flatten(0, 1)
    center, rate = grid.origin.flatten(), rate.flatten()
    missing = torch.full((G * Q,), num_reads, device=b.device)
    while bool((missing > 0).any()):
        # As many proposals for each query as give, on average, what the neediest one misses.
        row = missing.nonzero().squeeze(1)
        number = int((missing[row] / rate[row]).max() * 1.1) + 16
        number = min(number, max(1, CHUNK // (n * len(row))))
        proposal = _independent(b[row, None].expand(-1, number, -1), generator)
        a = (proposal * U[row, None]).sum(-1) + center[row, None]
        chance = torch.rand(a.shape, generator=generator, dtype=a.dtype, device=a.device)
        good = chance < (-(a**2) / 2).exp()
        place = num_reads - missing[row, None] + good.cumsum(1) - 1
        good &= place < num_reads
        which, number_of = good.nonzero(as_tuple=True)
        reads[row[which], place[which, number_of]] = proposal[which, number_of]
        missing[row] -= good.sum(1)
    return reads.view(G, Q, num_reads, n)


def _parts(num_reads: int, size: int) -> list[slice]:
    """Reads that are drawn at a time, of `size` spins each."""
    step = max(1, CHUNK // max(1, size))
    return [slice(i, min(i + step, num_reads)) for i in range(0, num_reads, step)]


def _independent(b: Float[Tensor, "*shape"], generator: torch.Generator | None) -> Tensor:
    """Spins of the fields b, ±1."""
    u = torch.rand(b.shape, generator=generator, dtype=b.dtype, device=b.device)
    return (u < (2 * b).sigmoid()).to(torch.int8) * 2 - 1
