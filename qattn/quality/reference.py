r"""What reads are compared with: exact moments, probabilities and gradients, or a long run's."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from qattn import exact
from qattn.estimators import DEFAULT_ESTIMATOR, mean_spins_from
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples
from qattn.quality.energy import EnergyDistribution, distribution_of, exact_distribution
from qattn.quality.split import one_group_per_problem, pieces

EXACT_SPINS = 20
"""Largest number of spins at which distributions are enumerated by default."""

LONG_RUN_READS = 10_000
"""Reads per problem of a long run that stands in for exact values, and of a second one, from which
the noise floor is drawn."""

LONG_RUN_SWEEPS = 200
"""Gibbs sweeps at the target β before each of them, after half as many at rising β."""


@dataclass(frozen=True, eq=False)
class Reference:
    r"""The problems of a batch, one by one, with what is known about each.

    Attributes:
        batch: The problems, split: one query a group, β = 1, float64.
        is_exact: Whether the values are exact, or those of a long run with its own noise.
        mean: ⟨s_j⟩.
        pairs: ⟨s_j s_k⟩.
        energies: Distribution of the energy of each problem.
        direction: Random gradients g ~ N(0, 1) that arrive at ⟨s⟩, 0 at absent spins.
        gradient_h: Derivatives of g·⟨s⟩ in h.
        gradient_J: Derivatives of g·⟨s⟩ in the two entries of each J.
        log_Z: Logarithms of the partition functions; None for a long run.
        pool: Reads of a second long run, independent of the values above.
    """

    batch: IsingBatch
    is_exact: bool
    mean: Float[Tensor, "problems n"]
    pairs: Float[Tensor, "problems n n"]
    energies: tuple[EnergyDistribution, ...] = field(repr=False)
    direction: Float[Tensor, "problems n"]
    gradient_h: Float[Tensor, "problems n"]
    gradient_J: Float[Tensor, "problems n n"]
    log_Z: Float[Tensor, " problems"] | None
    pool: SpinSamples | None = None

    @property
    def num_problems(self) -> int:
        """Number of problems that have spins."""
        return self.batch.num_groups

    @property
    def effective_states(self) -> Float[Tensor, " problems"]:
        """Effective number of states, e to the entropy, of each problem; nan for a long run."""
        if self.log_Z is None:
            return torch.full((self.num_problems,), torch.nan, dtype=torch.float64)
        mean = torch.tensor([energy.mean for energy in self.energies], dtype=torch.float64)
        return (self.log_Z + mean).exp()

    def draw(self, num_reads: int, seed: int) -> SpinSamples:
        """Independent exact reads; drawn with replacement from a long run where there are none."""
        seeds = torch.Generator().manual_seed(seed)
        if self.pool is not None:
            spins = self.pool.spins
            chosen = torch.randint(spins.shape[2], (len(spins), 1, num_reads, 1), generator=seeds)
            return SpinSamples(spins.gather(2, chosen.expand(-1, -1, -1, spins.shape[3])))
        parts = [
            exact.sample(piece, num_reads, int(torch.randint(2**31, (), generator=seeds)))
            for _, piece in pieces(self.batch)
        ]
        return SpinSamples(torch.cat([part.spins for part in parts]))


def reference_of(
    batch: IsingBatch,
    *,
    seed: int = 0,
    exact_spins: int = EXACT_SPINS,
    progress: Callable[[str], None] = lambda _: None,
) -> Reference:
    """The reference of a batch: exact if its problems are small enough, else a long run of neal.

    Args:
        batch: The problems, with their β.
        seed: Seed of the random gradients, and of a long run.
        exact_spins: Largest number of spins that is enumerated.
        progress: Called with a line before the work.

    Raises:
        ValueError: No query has spins.
        MemoryError: One problem exceeds ``qattn.exact.memory.MEMORY_LIMIT``.
    """
    problems = one_group_per_problem(batch)
    generator = torch.Generator().manual_seed(seed)
    g = torch.randn(problems.h[:, 0].shape, generator=generator, dtype=torch.float64)
    g = g * problems.active.expand_as(problems.h)[:, 0]
    if problems.num_spins > exact_spins:
        progress(f"long run of neal: {LONG_RUN_READS} reads of each problem")
        return _long_run(problems, g, seed)
    progress("exact moments, energies and gradients")
    means, pairs, log_Z, of_h, of_J = [], [], [], [], []
    for part, piece in pieces(problems):
        h, J = piece.h.clone().requires_grad_(), piece.J.clone().requires_grad_()
        mean = exact.mean_spins(IsingBatch(h, J, piece.lengths, validate=False))[:, 0]
        (mean * g[part]).sum().backward()
        assert h.grad is not None
        assert J.grad is not None
        means.append(mean.detach())
        pairs.append(exact.pair_correlations(piece)[:, 0])
        log_Z.append(exact.log_partition(piece)[:, 0])
        of_h.append(h.grad[:, 0])
        of_J.append(J.grad)
    energies = tuple(
        exact_distribution(h[0, :n], J[:n, :n])
        for h, J, n in zip(problems.h, problems.J, problems.num_active[:, 0].tolist(), strict=True)
    )
    return Reference(
        problems,
        True,
        torch.cat(means),
        torch.cat(pairs),
        energies,
        g,
        torch.cat(of_h),
        torch.cat(of_J),
        torch.cat(log_Z),
    )


@torch.enable_grad()
def estimated_gradients(
    samples: SpinSamples,
    reference_batch: IsingBatch,
    direction: Float[Tensor, "problems n"],
    estimator: str = DEFAULT_ESTIMATOR,
) -> tuple[Float[Tensor, "problems n"], Float[Tensor, "problems n n"]]:
    """Derivatives of g·⟨s⟩ in h and J as an estimator makes them of reads split by problem."""
    h = reference_batch.h.clone().requires_grad_()
    J = reference_batch.J.clone().requires_grad_()
    batch = IsingBatch(h, J, reference_batch.lengths, validate=False)
    mean = mean_spins_from(samples, batch, estimator=estimator)
    of_h, of_J = torch.autograd.grad((mean[:, 0] * direction).sum(), (h, J))
    return of_h[:, 0], of_J


def _long_run(problems: IsingBatch, g: Tensor, seed: int) -> Reference:
    from qattn.backends.registry import get_backend

    neal = get_backend("neal", num_sweeps=LONG_RUN_SWEEPS, ramp_sweeps=LONG_RUN_SWEEPS // 2)
    samples, pool = (
        neal.sample(problems, num_reads=LONG_RUN_READS, seed=run_seed)
        for run_seed in torch.randint(
            2**31, (2,), generator=torch.Generator().manual_seed(seed)
        ).tolist()
    )
    energies = problems.energies(samples.spins)[:, 0].numpy()
    of_h, of_J = estimated_gradients(samples, problems, g)
    return Reference(
        problems,
        False,
        samples.mean_spins(torch.float64)[:, 0],
        samples.pair_correlations(torch.float64)[:, 0],
        tuple(map(distribution_of, energies)),
        g,
        of_h,
        of_J,
        None,
        pool,
    )
