"""The reference of problems that are neither small nor sparse: a long run in equilibrium."""

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples
from qattn.quality.energy import distribution_of
from qattn.quality.reference import Reference, estimated_gradients, present_pairs

LONG_RUN_READS = 10_000
"""Reads per problem of a long run that stands in for exact values, and of a second one, from which
the noise floor is drawn."""

LONG_RUN_SWEEPS = 200
"""Gibbs sweeps at the target β before each of them, after half as many at rising β."""


def tempered_reference(
    problems: IsingBatch, direction: Float[Tensor, "problems n"], seed: int
) -> Reference:
    """The reference by a long run; a second one, independent of its values, gives the reads.

    Args:
        problems: The problems, one query a group, β = 1, float64.
        direction: Gradients that arrive at ⟨s⟩.
        seed: Seed of the runs.
    """
    from qattn.backends.registry import get_backend

    neal = get_backend("neal", num_sweeps=LONG_RUN_SWEEPS, ramp_sweeps=LONG_RUN_SWEEPS // 2)
    samples, pool = (
        neal.sample(problems, num_reads=LONG_RUN_READS, seed=run_seed)
        for run_seed in torch.randint(
            2**31, (2,), generator=torch.Generator().manual_seed(seed)
        ).tolist()
    )

    def draw(num_reads: int, seed: int) -> SpinSamples:
        seeds, spins = torch.Generator().manual_seed(seed), pool.spins
        chosen = torch.randint(spins.shape[2], (len(spins), 1, num_reads, 1), generator=seeds)
        return SpinSamples(spins.gather(2, chosen.expand(-1, -1, -1, spins.shape[3])))

    energies = problems.energies(samples.spins)[:, 0].numpy()
    of_h, of_J = estimated_gradients(samples, problems, direction)
    return Reference(
        problems,
        "long run of simulated annealing",
        samples.mean_spins(torch.float64)[:, 0],
        samples.pair_correlations(torch.float64)[:, 0],
        present_pairs(problems),
        tuple(map(distribution_of, energies)),
        direction,
        of_h,
        of_J,
        None,
        draw,
    )
