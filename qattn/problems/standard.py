r"""Standard Ising problems of statistical physics, as batches in float64, fixed by a seed."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.couplings import Banded
from qattn.ising.batch import IsingBatch

QUERIES_PER_GROUP = 10
"""Synthetic problems that share one J."""


def synthetic(
    num_problems: int = 40,
    num_spins: int = 8,
    *,
    field_sd: float = 1.0,
    coupling_sd: float = 0.3,
    seed: int = 0,
) -> IsingBatch:
    r"""Attention-like problems: h_j ~ N(0, field_sd²), J_jk ~ N(0, coupling_sd²), float64.

    Ten problems share a J. The number of problems is rounded up to a multiple of that.

    Raises:
        ValueError: A number is not positive.
    """
    _check(num_problems, num_spins, field_sd=field_sd, coupling_sd=coupling_sd)
    generator = torch.Generator().manual_seed(seed)
    groups, n = -(-num_problems // QUERIES_PER_GROUP), num_spins
    shape = (groups, min(num_problems, QUERIES_PER_GROUP), n)
    h = field_sd * torch.randn(shape, generator=generator, dtype=torch.float64)
    J = coupling_sd * torch.randn(groups, n, n, generator=generator, dtype=torch.float64)
    return IsingBatch(h, J.triu(1) + J.triu(1).mT)


def banded(
    num_problems: int = 10,
    num_spins: int = 64,
    *,
    width: int = 4,
    field_sd: float = 1.0,
    coupling_sd: float = 0.5,
    seed: int = 0,
) -> IsingBatch:
    r"""Gaussian couplings over distances up to a width, of any length: J is a band.

    .. math:: h_j \sim N(0, \text{field\_sd}^2), \qquad
              J_{j,j-d} \sim N(0, \text{coupling\_sd}^2), \quad d \le \text{width}

    Raises:
        ValueError: A number of problems or spins is not positive, another one is negative.

    >>> banded(2, num_spins=256).J
    Banded(values of shape (2, 256, 4))
    """
    if width < 0:
        raise ValueError(f"Argument `width` must not be negative, but is {width}.")
    h = random_fields(num_problems, num_spins, field_sd, seed)
    _check(num_problems, num_spins, coupling_sd=coupling_sd)
    generator = torch.Generator().manual_seed(seed + 1)
    J = torch.randn(num_problems, num_spins, width, generator=generator, dtype=torch.float64)
    return IsingBatch(h.unsqueeze(1), Banded(coupling_sd * J))


def ferromagnet(
    num_problems: int = 10,
    num_spins: int = 8,
    *,
    coupling: float = 1.0,
    field_sd: float = 0.1,
    seed: int = 0,
) -> IsingBatch:
    r"""Every spin coupled to every other with J = coupling/n, in random fields N(0, field_sd²).

    The Curie-Weiss model: at β = 1 its spins order from coupling 1 on (for many of them).

    Raises:
        ValueError: A number is not positive, or `field_sd` is negative.
    """
    h = random_fields(num_problems, num_spins, field_sd, seed)
    J = torch.full((1, num_spins, num_spins), coupling / num_spins, dtype=torch.float64)
    return IsingBatch(h.unsqueeze(0), J - torch.diag_embed(J.diagonal(dim1=1, dim2=2)))


def spin_glass(
    num_problems: int = 10, num_spins: int = 8, *, field_sd: float = 0.0, seed: int = 0
) -> IsingBatch:
    r"""The model of Sherrington and Kirkpatrick: J_jk ~ N(0, 1/n), h_j ~ N(0, field_sd²).

    Every problem has couplings of its own. The glass begins at β = 1 (for many spins).

    Raises:
        ValueError: A number is not positive, or `field_sd` is negative.
    """
    h = random_fields(num_problems, num_spins, field_sd, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    shape = (num_problems, num_spins, num_spins)
    J = torch.randn(shape, generator=generator, dtype=torch.float64).triu(1)
    return IsingBatch(h.unsqueeze(1), (J + J.mT) / math.sqrt(num_spins))


def frustrated_ring(
    num_problems: int = 10,
    num_spins: int = 8,
    *,
    coupling: float = 1.0,
    field_sd: float = 0.0,
    seed: int = 0,
) -> IsingBatch:
    r"""A ring with |J| = coupling between neighbours and an odd number of negative signs.

    Without fields all 2n states with one unsatisfied bond are ground states. Signs are random.

    Raises:
        ValueError: There are fewer than three spins, a number is not positive, or `field_sd` is
            negative.
    """
    if num_spins < 3:
        raise ValueError(f"Argument `num_spins` must be at least 3 for a ring, but is {num_spins}.")
    h = random_fields(num_problems, num_spins, field_sd, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    signs = 2 * torch.randint(2, (num_problems, num_spins), generator=generator) - 1
    signs[:, -1] *= -signs.prod(1)
    j = torch.arange(num_spins)
    J = torch.zeros(num_problems, num_spins, num_spins, dtype=torch.float64)
    J[:, j, (j + 1) % num_spins] = coupling * signs.double()
    return IsingBatch(h.unsqueeze(1), J + J.mT)


def planted(
    num_problems: int = 10,
    num_spins: int = 8,
    *,
    loops_per_spin: float = 1.0,
    coupling: float = 1.0,
    seed: int = 0,
) -> IsingBatch:
    r"""Sums of frustrated loops whose ground states include a known one (:func:`planted_states`).

    Each loop runs through 3 to 6 random spins; all its couplings favour the planted state, but one
    that opposes it, so the loop alone is at its best there (Hen et al., Phys. Rev. A 92, 042325
    (2015)). Couplings are scaled so that the largest is `coupling`.

    Raises:
        ValueError: There are fewer than three spins, or a number is not positive.
    """
    if num_spins < 3:
        raise ValueError(f"Argument `num_spins` must be at least 3 for a loop, but is {num_spins}.")
    if not loops_per_spin > 0:
        raise ValueError(f"Argument `loops_per_spin` must be positive, but is {loops_per_spin}.")
    states = planted_states(num_problems, num_spins, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    J = torch.zeros(num_problems, num_spins, num_spins, dtype=torch.float64)
    for p in range(num_problems):
        for _ in range(math.ceil(loops_per_spin * num_spins)):
            longest = min(6, num_spins)
            length = int(torch.randint(3, longest + 1, (), generator=generator))
            loop = torch.randperm(num_spins, generator=generator)[:length]
            after = loop.roll(-1)
            bonds = states[p, loop] * states[p, after]
            bonds[0] *= -1
            J[p].index_put_((loop, after), bonds, accumulate=True)
    J = J + J.mT
    largest = J.abs().amax((1, 2), keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    return IsingBatch(J.new_zeros(num_problems, 1, num_spins), coupling * J / largest)


def planted_states(
    num_problems: int = 10, num_spins: int = 8, *, seed: int = 0
) -> Float[Tensor, "problems n"]:
    """The ground state in {-1, +1} that each problem of :func:`planted` was built around."""
    _check(num_problems, num_spins)
    generator = torch.Generator().manual_seed(seed)
    states = 2 * torch.randint(2, (num_problems, num_spins), generator=generator) - 1
    return states.double()


def random_fields(
    num_problems: int, num_spins: int, sd: float, seed: int
) -> Float[Tensor, "problems n"]:
    """Fields h_j ~ N(0, sd²) of each problem, float64."""
    _check(num_problems, num_spins, field_sd=sd)
    generator = torch.Generator().manual_seed(seed)
    return sd * torch.randn(num_problems, num_spins, generator=generator, dtype=torch.float64)


def _check(num_problems: int, num_spins: int, **deviations: float) -> None:
    for name, value in (("num_problems", num_problems), ("num_spins", num_spins)):
        if value < 1:
            raise ValueError(f"Argument `{name}` must be positive, but is {value}.")
    for name, sd in deviations.items():
        if not 0 <= sd < math.inf:
            raise ValueError(f"Argument `{name}` must not be negative, but is {sd}.")
