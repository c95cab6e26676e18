r"""Curves of many spins by the exact engine that their couplings have.

ln Z, U, C and ⟨m⟩ come from the engine (:mod:`qattn.thermodynamics.curves.problems`), all pairs
⟨s_j s_k⟩ up to :data:`PAIRED_SPINS` spins, and the distribution of m, and of spins in equal fields
all pairs, where the couplings are a function of it (:class:`qattn.couplings.Cardinality`). The rest
is from independent exact reads.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.ising.batch import IsingBatch
from qattn.thermodynamics.curves.jackknife import (
    BLOCKS,
    kept_blocks,
    of_one_state,
    of_several_states,
    whole_blocks,
)
from qattn.thermodynamics.curves.problems import Problems
from qattn.thermodynamics.curves.quantities import Moments

PAIRED_SPINS = 128
"""Spins up to which all ⟨s_j s_k⟩ are computed: that takes n backward passes."""


@torch.no_grad()
def moments(
    batch: IsingBatch, betas: Float[Tensor, " betas"], num_reads: int, seed: int | None
) -> tuple[Moments, Float[Tensor, "groups queries betas"]]:
    """Averages of all replicates, and what the error of the heat capacity is below.

    Returns:
        Averages (replicates, groups, queries, betas), the same in all replicates where they are
        exact, nan where they need reads and `num_reads` is 0; and the error of C.
    """
    problems = Problems(batch)
    G, Q = batch.h.shape[:2]
    shape = (BLOCKS + 1, G * Q, len(betas))
    table = {name: torch.full(shape, torch.nan).double() for name in Moments._fields}
    errors = torch.zeros(shape[1:], dtype=torch.float64)
    for b, beta in enumerate(betas.tolist()):
        if num_reads:
            drawn = problems.sample(
                problems.at(beta), whole_blocks(num_reads), None if seed is None else seed + b
            )
            for p, spins in enumerate(drawn.spins.squeeze(1).cpu()):
                for name, values in _from_reads(spins, int(problems.lengths[p])).items():
                    table[name][:, p, b] = values
        exactly, errors[:, b] = _from_engine(problems, beta)
        for name, values in exactly.items():
            table[name][:, :, b] = values.cpu()
    shaped = {name: values.unflatten(1, (G, Q)) for name, values in table.items()}
    return Moments(**shaped), errors.unflatten(0, (G, Q))


def _from_engine(problems: Problems, beta: float) -> tuple[dict[str, Tensor], Tensor]:
    """Averages that the engine gives, and the error of C."""
    solved = problems.solve(beta)
    n = problems.lengths.squeeze(1).clamp_min(1).to(solved.mean)
    C, error = problems.heat_capacity(beta)
    found = {
        "log_Z": solved.log_Z,
        "energy": solved.energy,
        "energy_variance": C / beta**2 if beta else torch.zeros_like(C),
        "m": solved.mean.sum(1) / n,
    }
    if solved.counts is not None:
        # Over the distribution of the number of spins up, c: m = 2c/n - 1.
        p = solved.counts
        m = 2 * torch.arange(p.shape[1]).to(p) / n[:, None] - 1
        found["m_variance"] = (p * (m - found["m"][:, None]) ** 2).sum(1)
        powers = {"abs_m": m.abs(), "m2": m**2, "m4": m**4}
        found |= {name: (p * power).sum(1) for name, power in powers.items()}
    if solved.counts is not None and problems.alike:
        # All pairs have the covariance that Var(m) leaves to them.
        single = 1 - found["m"].square()
        pair = (n * found["m_variance"] - single) / (n - 1).clamp_min(1)
        found["cross_susceptibility"] = (n - 1) * pair.square()
        found["spin_glass_susceptibility"] = single.square() + found["cross_susceptibility"]
    elif problems.h.shape[2] <= PAIRED_SPINS:
        covariances = problems.covariances(beta)
        squares = covariances.square()
        found["m_variance"] = covariances.sum((1, 2)) / n**2
        found["spin_glass_susceptibility"] = squares.sum((1, 2)) / n
        single = squares.diagonal(0, 1, 2).sum(1) / n
        found["cross_susceptibility"] = found["spin_glass_susceptibility"] - single
    return found, error.cpu()


def _from_reads(spins: Tensor, n: int) -> dict[str, Tensor]:
    """Averages of all replicates that the engine may not give."""
    L = len(spins) // BLOCKS
    kept = kept_blocks()[:, :, None].expand(-1, -1, L)
    weights = (kept / kept.sum((1, 2), keepdim=True)).flatten(1)
    no_energies = torch.zeros(len(spins), dtype=torch.float64)
    _, _, _, m_variance, abs_m, m2, m4 = of_one_state(spins, no_energies, weights, n)
    glass, cross, q2, q4 = of_several_states(spins.unflatten(0, (BLOCKS, L)), kept, n)
    return {
        "m_variance": m_variance,
        "abs_m": abs_m,
        "m2": m2,
        "m4": m4,
        "spin_glass_susceptibility": glass,
        "cross_susceptibility": cross,
        "q2": q2,
        "q4": q4,
    }
