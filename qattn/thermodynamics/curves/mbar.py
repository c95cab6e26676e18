r"""One estimate of all averages at every β from reads at several: MBAR.

With N reads from each β_k of a ladder, all reads t of all temperatures together, and the ln Z_k of
:func:`qattn.chains.free_energy.solve_mbar`,

.. math::
    \langle A \rangle_\beta = \sum_t w_t(\beta) A_t, \qquad
    w_t(\beta) = \frac{1}{Z(\beta)} \frac{e^{-\beta E_t}}{\sum_k N e^{-\beta_k E_t} / Z_k}

(Shirts and Chodera, J. Chem. Phys. 129, 124105 (2008)); the ladder begins at β = 0, where
ln Z = n ln 2. Averages over several independent states take reads that are drawn again with the
probabilities w_t, some from each block.
"""

import warnings
from math import log

import torch
from jaxtyping import Float, Int8
from torch import Tensor

from qattn.backends import Backend
from qattn.chains.free_energy import log_weights, solve_mbar
from qattn.ising.batch import IsingBatch
from qattn.ising.states import invert_cdf
from qattn.thermodynamics.curves.jackknife import (
    BLOCKS,
    kept_blocks,
    of_one_state,
    of_several_states,
)
from qattn.thermodynamics.curves.ladder import TEMPERATURES, Ladder
from qattn.thermodynamics.curves.quantities import Moments

LEAST_OVERLAP = 0.03
"""Overlap of neighbouring temperatures below which one is put between them (Klimovich, Shirts and
Mobley, J. Comput. Aided Mol. Des. 29, 397 (2015))."""

DRAWN_AGAIN = 2
"""Reads that are drawn again at a β, as a multiple of those of a temperature."""


class OverlapWarning(UserWarning):
    """Reads of neighbouring temperatures do not overlap: curves are nan."""


@torch.no_grad()
def moments(
    batch: IsingBatch,
    betas: Float[Tensor, " betas"],
    backend: Backend,
    num_reads: int,
    seed: int | None,
) -> tuple[Moments, int]:
    """Averages of all replicates, (replicates, groups, queries, betas), and the temperatures."""
    ladder = Ladder(batch, float(betas[-1]), backend, num_reads, seed)
    Q = batch.num_queries
    problems = [divmod(p, Q) for p in range(batch.num_groups * Q)]
    found = [_Problem(ladder, g, q) for g, q in problems]
    while True:
        gaps = torch.stack([problem.overlaps() for problem in found]) < LEAST_OVERLAP
        room = TEMPERATURES[1] - len(ladder.betas)
        wide = gaps.any(0).nonzero().squeeze(1)[:room]
        if not len(wide):
            break
        ladder.add((ladder.betas[wide] + ladder.betas[wide + 1]) / 2)
        found = [_Problem(ladder, g, q) for g, q in problems]
    apart = gaps.any(1).tolist()
    if any(apart):
        warnings.warn(
            f"Reads at {len(ladder.betas)} temperatures from β = 0 to {float(betas[-1]):g} do not "
            f"overlap for {sum(apart)} of {len(found)} queries, whose curves are nan: take more "
            f"reads, or betas that end earlier.",
            OverlapWarning,
            stacklevel=3,
        )
    shape = (BLOCKS + 1, batch.num_groups, Q, len(betas))
    values = torch.full((len(Moments._fields), *shape), torch.nan, dtype=torch.float64)
    for (g, q), problem, is_apart in zip(problems, found, apart, strict=True):
        if is_apart:
            continue
        n = int(batch.num_active[g, q])
        for b, beta in enumerate(betas.tolist()):
            values[:, :, g, q, b] = torch.stack(problem.at(beta, n, ladder.generator))
    return Moments(*values), len(ladder.betas)


class _Problem:
    """Reads of one query at all temperatures, and the ln Z_k of every replicate."""

    def __init__(self, ladder: Ladder, g: int, q: int) -> None:
        # By block: (blocks, temperatures · reads of a block, …).
        self.spins = self._by_block([reads.spins[g, q] for reads in ladder.reads])
        self.energies = self._by_block([reads.energies[g, q] for reads in ladder.reads])
        self.betas = ladder.betas
        R = BLOCKS
        weights = torch.stack([reads.weights[g, q] for reads in ladder.reads])
        N = weights.shape[1]
        kept = kept_blocks()
        # Counts of each replicate: as many at every temperature.
        counts = weights.unflatten(1, (R, -1)) * kept[:, None, :, None]
        self.samples = N * kept.sum(1) / R
        counts *= (self.samples[:, None] / counts.sum((2, 3)))[:, :, None, None]
        flat = counts.permute(0, 2, 1, 3).flatten(1)
        energies = torch.stack([reads.energies[g, q] for reads in ladder.reads])
        mean = (counts * energies.unflatten(1, (R, -1))).sum((2, 3)) / self.samples[:, None]
        start = torch.nn.functional.pad(torch.cumulative_trapezoid(-mean, self.betas), (1, 0))
        problem = (self.energies.flatten(), self.betas)
        whole = solve_mbar(flat[:1], *problem, self.samples[:1], start[:1])
        without = solve_mbar(flat[1:], *problem, self.samples[1:], whole + start[1:] - start[:1])
        self.log_Z = torch.cat([whole, without])
        base = log_weights(*problem, self.samples, self.log_Z)
        self.log_weights = base + flat.log()

    def _by_block(self, values: list[Tensor]) -> Tensor:
        by_block: Tensor = torch.stack(values, 1).unflatten(0, (BLOCKS, -1))
        return by_block.transpose(1, 2).flatten(1, 2)

    def overlaps(self) -> Float[Tensor, " pairs"]:
        """Σ_t w_t(β_k) N w_t(β_{k+1}) of neighbours; 1/2 where the two are one."""
        exponents = -self.log_Z[0, :, None] - self.betas[:, None] * self.energies.flatten()
        w, p = (self.log_weights[0] + exponents).exp(), exponents.softmax(0)
        # nan, where ln Z has no solution, is no overlap.
        overlaps: Tensor = (w[:-1] * p[1:]).sum(1)
        return overlaps.nan_to_num(0)

    def at(self, beta: float, n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Averages of every replicate, in the order of :class:`Moments`."""
        exponents = self.log_weights - beta * self.energies.flatten()
        log_Z = exponents.logsumexp(1)
        weights = (exponents - log_Z[:, None]).exp()
        one = of_one_state(self.spins.flatten(0, 1), self.energies.flatten(), weights, n)
        spins, again = self._drawn_again(weights.unflatten(1, (BLOCKS, -1)), generator)
        several = of_several_states(spins, again, n)
        return log_Z + n * log(2), *one, *several

    def _drawn_again(
        self, weights: Float[Tensor, "replicates blocks reads"], generator: torch.Generator
    ) -> tuple[Int8[Tensor, "blocks drawn n"], Float[Tensor, "replicates blocks drawn"]]:
        """Reads of each block drawn with the weights of all, in random order, and what they count.

        Where a block's reads are drawn with w_t/u, u its total, one counts u w'_t/w_t in a
        replicate whose weights are w'.
        """
        reads = self.energies.shape[1] // len(self.betas)
        shape = (BLOCKS, DRAWN_AGAIN * reads)
        # Even strata, shuffled.
        order = torch.rand(shape, generator=generator, dtype=torch.float64).argsort(1)
        uniforms = torch.rand(shape, generator=generator, dtype=torch.float64)
        drawn = invert_cdf(weights[0], (order + uniforms) / shape[1])
        spins = self.spins.gather(1, drawn[..., None].expand(-1, -1, self.spins.shape[2]))
        ratio = weights.gather(2, drawn.expand(len(weights), -1, -1)) / weights[0].gather(1, drawn)
        return spins, ratio * weights[0].sum(1)[:, None]
