r"""Exact averages of few spins at many temperatures, by enumeration and a Walsh-Hadamard transform.

The energies of all 2^n states are computed once. At each β the Walsh-Hadamard transform of the
probabilities,

.. math:: \rho_A = \sum_s p(s) \prod_{j \in A} s_j \quad \text{for every set } A \text{ of spins},

holds all correlations: ⟨s_j⟩ and ⟨s_j s_k⟩, and, as W_w = Σ_{|A| = w} ρ_A², the distribution of the
overlap of two independent states, which differ in d spins with probability

.. math:: P(d) = 2^{-n} \sum_w K_d(w) W_w, \qquad
          K_d(w) = \sum_i (-1)^i \binom{w}{i} \binom{n - w}{d - i}

(Krawtchouk's polynomials). The cost is some n 2^n operations a query and β.
"""

from collections.abc import Iterator
from functools import lru_cache
from math import comb

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qattn.couplings import Couplings, interaction
from qattn.ising.batch import IsingBatch
from qattn.ising.precision import without_autocast
from qattn.ising.states import states
from qattn.thermodynamics.curves.quantities import Moments

CHUNK_ELEMENTS = 1 << 21
"""Probabilities that are held at a time, where one query at one β does not need more."""

RADIX = 5
"""Spins that are transformed at a time."""


@torch.no_grad()
def moments(batch: IsingBatch, betas: Float[Tensor, " betas"]) -> Moments:
    """Averages of every query at every β, in float64 on the CPU."""
    rows = torch.zeros(len(Moments._fields), *batch.h.shape[:2], len(betas), dtype=torch.float64)
    for g, q, energies, n in _models(batch, len(betas)):
        S = states(n, energies.dtype, energies.device)
        for part in torch.arange(len(betas)).split(max(1, CHUNK_ELEMENTS >> n)):
            of_part = _moments(energies, betas[part].to(energies.device), S)
            for row, values in zip(rows, of_part, strict=True):
                row[g, q[:, None], part] = values.cpu()
    return Moments(*rows)


@torch.no_grad()
def overlaps(
    batch: IsingBatch, betas: Float[Tensor, " betas"]
) -> Iterator[tuple[int, Int[Tensor, " m"], Float[Tensor, "m betas distances"]]]:
    """Of queries as they come: their group, numbers, and the P(d) of d = 0 … n at every β."""
    for g, q, energies, n in _models(batch, len(betas)):
        parts = betas.to(energies).split(max(1, CHUNK_ELEMENTS >> n))
        found = [_distances(walsh(_probabilities(energies, part)[1]), n) for part in parts]
        yield g, q, torch.cat(found, 1).cpu()


def walsh(p: Float[Tensor, "*rows states"]) -> Float[Tensor, "*rows states"]:
    r"""ρ_A = Σ_s p(s) Π_{j ∈ A} s_j; bit j of a number says whether s_j = +1, and whether j ∈ A.

    >>> walsh(torch.tensor([0.1, 0.4, 0.1, 0.4]))  # 1, ⟨s_0⟩, ⟨s_1⟩, ⟨s_0 s_1⟩
    tensor([1.0000, 0.6000, 0.0000, 0.0000])
    """
    x, left = p.reshape(-1, p.shape[-1]), p.shape[-1].bit_length() - 1
    while left:
        bits = min(RADIX, left)
        left -= bits
        # The highest bits become the lowest: when all have passed they are in order again.
        x = (x.unflatten(1, (1 << bits, -1)).mT @ _products(bits).to(x)).flatten(1)
    return x.reshape(p.shape)


def _models(
    batch: IsingBatch, num_betas: int
) -> Iterator[tuple[int, Int[Tensor, " m"], Float[Tensor, "m states"], int]]:
    """Queries of one group and one number of spins: group, numbers, energies, number of spins."""
    h, J = batch.scaled_structure()
    h, J = h.detach().double(), J.detach().to(torch.float64)
    lengths = torch.from_numpy(batch.num_active.copy())
    for g in range(batch.num_groups):
        for n in lengths[g].unique().tolist():
            S = states(n, h.dtype, h.device)
            alone = J[g : g + 1]
            couplings = alone.leading(n) if isinstance(alone, Couplings) else alone[:, :n, :n]
            with without_autocast(h.device):
                pairs = interaction(couplings, S.mT.unsqueeze(0))[0]
                queries = (lengths[g] == n).nonzero().squeeze(1)
                for q in queries.split(max(1, CHUNK_ELEMENTS // (num_betas << n))):
                    yield g, q, -(h[g, q, :n] @ S.mT + pairs), n


def _probabilities(
    energies: Float[Tensor, "m states"], betas: Float[Tensor, " betas"]
) -> tuple[Float[Tensor, "m betas"], Float[Tensor, "m betas states"]]:
    """Ln Z and p(s); a state of infinite energy is forbidden at β = 0 too."""
    exponents = -betas[:, None] * energies.masked_fill(energies.isinf(), 0).unsqueeze(1)
    exponents = exponents.masked_fill(energies.isinf().unsqueeze(1), -torch.inf)
    log_Z = exponents.logsumexp(-1)
    return log_Z, (exponents - log_Z.unsqueeze(-1)).exp_()


def _moments(
    energies: Float[Tensor, "m states"],
    betas: Float[Tensor, " betas"],
    S: Float[Tensor, "states n"],
) -> Moments:
    n = S.shape[1]
    log_Z, p = _probabilities(energies, betas)
    # Above the ground state, so that the variance of a frozen query keeps its digits.
    ground = energies.amin(1, keepdim=True)
    above = (energies - ground).masked_fill(energies.isinf(), 0)
    first, second = (p @ torch.stack([above, above.square()], -1)).unbind(-1)
    m = S.sum(1) / max(n, 1)
    mean, abs_m, m2, m4 = (p @ torch.stack([m, m.abs(), m**2, m**4], -1)).unbind(-1)
    rho = walsh(p)
    # Pairs from the sets of two spins, spins from those of one.
    bit = 1 << torch.arange(n, device=p.device)
    j, k = torch.triu_indices(n, n, 1, device=p.device)
    spins = rho[..., bit]
    covariances = rho[..., bit[j] + bit[k]] - spins[..., j] * spins[..., k]
    single = (1 - spins.square()).square().sum(-1) / max(n, 1)
    cross = 2 * covariances.square().sum(-1) / max(n, 1)
    P, q = _distances(rho, n), 1 - 2 * torch.arange(n + 1).to(rho) / max(n, 1)
    return Moments(
        log_Z,
        first + ground,
        second - first.square(),
        mean,
        m2 - mean.square(),
        abs_m,
        m2,
        m4,
        single + cross,
        cross,
        P @ q**2,
        P @ q**4,
    )


def _distances(rho: Float[Tensor, "*rows states"], n: int) -> Float[Tensor, "*rows distances"]:
    """P(d) that two independent states differ in d spins, from all correlations."""
    sizes = (states(n, torch.int64, rho.device) > 0).sum(1)
    W = rho.new_zeros(*rho.shape[:-1], n + 1).index_add_(-1, sizes, rho.square())
    P: Tensor = W @ _krawtchouk(n).to(W)
    return P.clamp_min(0)


@lru_cache(maxsize=64)
def _krawtchouk(n: int) -> Float[Tensor, "sizes distances"]:
    """2^-n K_d(w)."""
    rows = [
        [
            sum((-1) ** i * comb(w, i) * comb(n - w, d - i) for i in range(d + 1))
            for d in range(n + 1)
        ]
        for w in range(n + 1)
    ]
    table: Tensor = torch.tensor(rows, dtype=torch.float64) / 2**n
    return table


@lru_cache(maxsize=RADIX)
def _products(bits: int) -> Float[Tensor, "states sets"]:
    """Π_{j ∈ A} s_j of every state and every set of so many spins."""
    one = torch.tensor([[1.0, -1.0], [1.0, 1.0]], dtype=torch.float64)
    table = torch.ones(1, 1, dtype=torch.float64)
    for _ in range(bits):
        table = torch.kron(table, one)
    return table
