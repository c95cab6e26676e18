"""Long parallel tempering of problems: burn-in, measurement, and what came out."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from qattn.chains import Tempering
from qattn.chains.free_energy import EnergyRecord, FreeEnergy
from qattn.ising.batch import IsingBatch
from qattn.quality.energy import merged
from qattn.quality.split import part_of
from qattn.quality.tempered.moments import Moments
from qattn.quality.tempered.stored import LongRun

NUM_SETS = 32
"""Independent sets of replicas: error bars have 31 degrees of freedom."""

KEPT_READS = 10_000
"""About how many reads of each problem are kept, from which the noise floor is drawn."""

ADAPTATIONS, ADAPTATION_SWEEPS = 5, 100
"""How often the ladder is spaced anew, and the sweeps before each."""

ROUND_TRIPS = 20
"""Round trips that a set must make before the measurement, and during it."""

BLOCK, READ_EVERY = 64, 8
"""Sweeps of a block, and between two reads of a set."""

READS_AT_A_TIME = 64
"""Reads of a set that are added to the moments at a time."""

LEVEL = 1e-3
"""How often a problem in equilibrium may be called out of it."""

PIECE_ELEMENTS = 1 << 20
"""Spins of all replicas that are tempered together, at 16 temperatures: 20 problems of 100."""


def long_runs(
    problems: IsingBatch,
    direction: Float[Tensor, "problems n"],
    num_sweeps: int,
    seed: int,
    progress: Callable[[str], None],
) -> Iterator[LongRun]:
    """Temper problems, several side by side, and yield what came out for each.

    Args:
        problems: The problems, one query a group, β = 1.
        direction: Gradients that arrive at ⟨s⟩.
        num_sweeps: Sweeps of the measurement, and at most as many before it.
        seed: Seed of all randomness.
        progress: Called with a line now and then.
    """
    generator = torch.Generator().manual_seed(seed)
    P, n = direction.shape
    step = max(1, PIECE_ELEMENTS // (16 * NUM_SETS * n))
    for start in range(0, P, step):
        part = slice(start, min(start + step, P))
        which = f"{start + 1} to {part.stop} of {P}" if part.stop > start + 1 else f"{part.stop}"

        def say(text: str, which: str = which) -> None:
            progress(f"parallel tempering, problem {which}: {text}")

        running = Run(part_of(problems, part), direction[part], generator)
        running.burn_in(num_sweeps, say)
        running.measure(num_sweeps, say)
        yield from running.results()


class Run:
    """Parallel tempering of problems side by side.

    Args:
        problems: The problems, one query a group, β = 1.
        direction: Gradients that arrive at ⟨s⟩.
        generator: Source of all randomness.
        num_sets: Number of independent sets of replicas.
    """

    def __init__(
        self,
        problems: IsingBatch,
        direction: Float[Tensor, "problems n"],
        generator: torch.Generator,
        num_sets: int = NUM_SETS,
    ) -> None:
        # Nothing may come from absent spins.
        active = problems.active.expand_as(problems.h).double()
        h, J = problems.h * active, problems.matrix * active * active.mT
        self.sizes = problems.num_active[:, 0].tolist()
        self.direction = direction
        self.num_sets = num_sets
        # Every second set starts up, the others down.
        self.up = torch.arange(num_sets) % 2 == 0
        starts = torch.where(self.up, 1, -1).to(torch.int8)[:, None]
        self.tempering = Tempering(
            IsingBatch(h, J, problems.lengths, validate=False),
            starts.expand(len(h), 1, num_sets, h.shape[2]),
            generator,
        )

    def burn_in(self, max_sweeps: int, progress: Callable[[str], None]) -> None:
        """Space the ladder, and sweep until round trips have carried the starts away."""
        for _ in range(ADAPTATIONS):
            self.tempering.adapt(ADAPTATION_SWEEPS)
        for done in range(0, max_sweeps, BLOCK):
            trips = float(self.tempering.round_trips.mean(-1).min())
            if trips >= ROUND_TRIPS:
                break
            progress(f"burn-in, {done} sweeps, {trips:.3g} of {ROUND_TRIPS} round trips")
            self.tempering.run(BLOCK)
        self._trips_before = self.tempering.round_trips.clone()
        self.record = EnergyRecord(self.tempering.betas[:, 0], self.num_sets)
        self.moments = Moments(self.direction, self.num_sets, KEPT_READS)

    def measure(self, num_sweeps: int, progress: Callable[[str], None] = lambda _: None) -> None:
        """Record energies, control variates and reads of at least `num_sweeps` more sweeps."""
        betas = self.tempering.betas[:, 0]
        shape = (*betas.shape, self.num_sets)
        energies, variates = torch.empty(2, BLOCK, *shape)
        sweep = [0] * len(betas)
        reads: list[Tensor] = []

        def observe(g: slice, q: slice, E: Tensor, s: Tensor, b: Tensor, at: Tensor) -> None:
            """Note E and D = Σ_j b_j (s_j - tanh β b_j) of each temperature."""
            ladder = betas[g].unsqueeze(-1).expand(-1, *shape[1:])
            of_replica = torch.empty_like(E[:, 0]).scatter_(1, at[:, 0], ladder).flatten(1)
            pull = torch.tanh_(b * of_replica.unsqueeze(1)).neg_().add_(s).mul_(b).sum(1)
            energies[sweep[g.start], g] = E[:, 0]
            variates[sweep[g.start], g] = pull.view(ladder.shape).gather(1, at[:, 0])
            sweep[g.start] += 1

        for done in range(0, num_sweeps, BLOCK):
            if done % (8 * BLOCK) == 0:
                progress(f"{shape[1]} temperatures, {done:,} of {num_sweeps:,} sweeps")
            sweep[:] = [0] * len(betas)
            for _ in range(BLOCK // READ_EVERY):
                self.tempering.run(READ_EVERY, observe)
                reads.append(self.tempering.spins[:, 0].mT)
            self.record.add(energies, variates)
            # Sums of products of many reads at a time.
            if len(reads) >= READS_AT_A_TIME or done + BLOCK >= num_sweeps:
                self.moments.add(torch.stack(reads))
                reads.clear()

    def free_energy(self) -> FreeEnergy:
        """ln Z along the ladder."""
        return self.record.free_energy(torch.tensor(self.sizes))

    def results(self) -> Iterator[LongRun]:
        """What came out, problem by problem."""
        free, moments = self.free_energy(), self.moments
        trips = (self.tempering.round_trips - self._trips_before).mean(-1)[:, 0].double()
        z2 = moments.two_group_statistic(self.up)
        # Sets that remember their start differ by more than chance. Spins may all move together:
        # one degree of freedom is the most cautious.
        agree = torch.from_numpy(stats.f.sf(z2.numpy(), 1, self.num_sets - 2)) > LEVEL
        settled = agree & (trips >= ROUND_TRIPS) & free.log_Z[:, -1].isfinite()
        mean, pairs, (of_h, of_J) = moments.mean(), moments.pairs(), moments.gradients()
        for p, size in enumerate(self.sizes):
            n = slice(size)
            energies = merged(free.energies[p].numpy(), free.probabilities[p].numpy())
            yield LongRun(
                mean.value[p, n].numpy(),
                mean.error[p, n].numpy(),
                pairs.value[p, n, n].numpy(),
                pairs.error[p, n, n].numpy(),
                of_h.value[p, n].numpy(),
                of_J.value[p, n, n].numpy(),
                free.betas[p].numpy(),
                free.log_Z[p].numpy(),
                free.standard_error[p].numpy(),
                energies.values,
                energies.probabilities,
                moments.reads[p, :, n].numpy(),
                float(trips[p]),
                float(z2[p]),
                self.record.num_sweeps,
                bool(settled[p]),
            )
