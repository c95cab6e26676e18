"""Long parallel tempering of problems: burn-in, measurement, and what came out."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from qattn.chains import Tempering
from qattn.chains.free_energy import EnergyRecord
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

LEVEL = 1e-3
"""How often a problem in equilibrium may be called out of it."""

PIECE_ELEMENTS = 1 << 23
"""Spins of all replicas that are tempered together, at 16 temperatures."""


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
    # Nothing may come from absent spins.
    active = problems.active.expand_as(problems.h).double()
    h, J = problems.h * active, problems.J * active * active.mT
    clean = IsingBatch(h, J, problems.lengths, validate=False)
    P, n = direction.shape
    step = max(1, PIECE_ELEMENTS // (16 * NUM_SETS * n))
    for start in range(0, P, step):
        part = slice(start, min(start + step, P))
        which = f"problem{'s' * (part.stop > start + 1)} {start + 1} to {part.stop} of {P}"

        def say(text: str, which: str = which) -> None:
            progress(f"parallel tempering, {which}: {text}")

        yield from _piece(part_of(clean, part), direction[part], num_sweeps, generator, say)


def _piece(
    problems: IsingBatch,
    direction: Float[Tensor, "problems n"],
    num_sweeps: int,
    generator: torch.Generator,
    progress: Callable[[str], None],
) -> Iterator[LongRun]:
    P, n = direction.shape
    # Every second set starts up, the others down.
    up = torch.arange(NUM_SETS) % 2 == 0
    starts = torch.where(up, 1, -1).to(torch.int8)[:, None].expand(P, 1, NUM_SETS, n)
    tempering = Tempering(problems, starts, generator)
    for _ in range(ADAPTATIONS):
        tempering.adapt(ADAPTATION_SWEEPS)
    for done in range(0, num_sweeps, BLOCK):
        trips = tempering.round_trips.mean(-1)
        if float(trips.min()) >= ROUND_TRIPS:
            break
        progress(f"burn-in, {done} sweeps, {float(trips.min()):.3g} of {ROUND_TRIPS} round trips")
        tempering.run(BLOCK)
    before = tempering.round_trips.clone()
    record, moments = _measured(tempering, direction, num_sweeps, progress)
    free = record.free_energy(problems.active.expand_as(problems.h).sum((1, 2)))
    trips = (tempering.round_trips - before).mean(-1)[:, 0].double()
    z2 = moments.two_group_statistic(up)
    # Sets that remember their start differ by more than chance. Spins may all move together: one
    # degree of freedom is the most cautious.
    agree = torch.from_numpy(stats.f.sf(z2.numpy(), 1, NUM_SETS - 2)) > LEVEL
    mean, pairs, (of_h, of_J) = moments.mean(), moments.pairs(), moments.gradients()
    for p, size in enumerate(problems.num_active[:, 0].tolist()):
        spins = slice(size)
        energies = merged(free.energies[p].numpy(), free.probabilities[p].numpy())
        yield LongRun(
            mean.value[p, spins].numpy(),
            mean.error[p, spins].numpy(),
            pairs.value[p, spins, spins].numpy(),
            pairs.error[p, spins, spins].numpy(),
            of_h.value[p, spins].numpy(),
            of_J.value[p, spins, spins].numpy(),
            free.betas[p].numpy(),
            free.log_Z[p].numpy(),
            free.standard_error[p].numpy(),
            energies.values,
            energies.probabilities,
            moments.reads[p, :, spins].numpy(),
            float(trips[p]),
            float(z2[p]),
            record.num_sweeps,
            bool(agree[p] & (trips[p] >= ROUND_TRIPS) & free.log_Z[p, -1].isfinite()),
        )


def _measured(
    tempering: Tempering,
    direction: Float[Tensor, "problems n"],
    num_sweeps: int,
    progress: Callable[[str], None],
) -> tuple[EnergyRecord, Moments]:
    """Energies, control variates and reads of at least `num_sweeps` sweeps."""
    betas = tempering.betas[:, 0]
    P, K = betas.shape
    record = EnergyRecord(betas, NUM_SETS)
    moments = Moments(direction, NUM_SETS, KEPT_READS)
    energies = torch.empty(BLOCK, P, K, NUM_SETS)
    variates = torch.empty_like(energies)
    sweep = [0] * P

    def observe(g: slice, q: slice, E: Tensor, s: Tensor, b: Tensor, replica_at: Tensor) -> None:
        """Note E and D = Σ_j b_j (s_j - tanh β b_j) of each temperature."""
        at = betas[g].unsqueeze(-1).expand(-1, K, NUM_SETS).contiguous()
        of_replica = torch.empty_like(at).scatter_(1, replica_at[:, 0], at).flatten(1)
        pull = torch.tanh_(b * of_replica.unsqueeze(1)).neg_().add_(s).mul_(b).sum(1)
        energies[sweep[g.start], g] = E[:, 0]
        variates[sweep[g.start], g] = pull.view_as(at).gather(1, replica_at[:, 0])
        sweep[g.start] += 1

    for done in range(0, num_sweeps, BLOCK):
        if done % (8 * BLOCK) == 0:
            progress(f"{K} temperatures, {done:,} of {num_sweeps:,} sweeps")
        sweep[:] = [0] * P
        reads = []
        for _ in range(BLOCK // READ_EVERY):
            tempering.run(READ_EVERY, observe)
            reads.append(tempering.spins[:, 0].mT)
        record.add(energies, variates)
        moments.add(torch.stack(reads))
    return record, moments
