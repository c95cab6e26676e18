"""Markov chains beside nets: what an independent read costs, and how good reads are."""

import time
import warnings
from dataclasses import dataclass

import torch

from qattn import IsingBatch, SpinSamples
from qattn.backends import get_backend
from qattn.chains import EquilibriumWarning, Tempering
from qattn.quality import integrated_time
from qattn.quality.autocorrelation import LONG_ENOUGH

NUM_SETS = 8
"""Independent sets of replicas."""

PAIRS = 64
"""Pairs of spins, chosen at random, whose products are followed."""

ADAPTATIONS, ADAPTATION_SWEEPS = 5, 100
BURN_IN_TRIPS = 5
"""Round trips of a set before anything is measured."""

FIRST_SWEEPS, MOST_SWEEPS = 1024, 1 << 16


@dataclass(frozen=True)
class ChainReads:
    """What parallel tempering costs.

    Attributes:
        seconds: CPU time of an independent read: a sweep of all temperatures of one set, times the
            integrated autocorrelation time.
        sweeps: That time in sweeps, of s_j s_k or of the energy, the longer.
        temperatures: Number of temperatures.
        trip_sweeps: Sweeps of a round trip.
        resolved: Whether the run was 50 autocorrelation times long; else the true one is longer.
    """

    seconds: float
    sweeps: float
    temperatures: int
    trip_sweeps: float
    resolved: bool


def independent_reads(problem: IsingBatch, seed: int = 0, *, most: int = MOST_SWEEPS) -> ChainReads:
    """What an independent read of one problem costs by parallel tempering.

    Products of two spins and the energy are followed, none of which changes when all spins do: a
    read without fields may be turned around at no cost. The run is doubled until it is 50
    autocorrelation times long.

    Args:
        problem: One group of one query.
        seed: Seed of all randomness.
        most: Sweeps at which the run ends in any case.
    """
    generator = torch.Generator().manual_seed(seed)
    n = problem.num_spins
    starts = 2 * torch.randint(2, (1, 1, NUM_SETS, n), generator=generator) - 1
    tempering = Tempering(problem, starts.to(torch.int8), generator)
    for _ in range(ADAPTATIONS):
        tempering.adapt(ADAPTATION_SWEEPS)
    for _ in range(0, most, ADAPTATION_SWEEPS):
        tempering.run(ADAPTATION_SWEEPS)
        if float(tempering.round_trips.mean()) >= BURN_IN_TRIPS:
            break
    # Time is taken without the observation of every sweep.
    trips, start = tempering.round_trips.clone(), time.process_time()
    tempering.run(FIRST_SWEEPS)
    per_sweep = (time.process_time() - start) / FIRST_SWEEPS / NUM_SETS
    one, other = (torch.randint(n, (PAIRS,), generator=generator) for _ in range(2))
    products, energies, sweeps = [], [], FIRST_SWEEPS
    while True:
        while len(products) < sweeps:
            tempering.run(1)
            spins = tempering.spins
            products.append(spins[0, 0][:, one] * spins[0, 0][:, other])
            energies.append(problem.energies(spins)[0, 0])
        times = [
            float(torch.stack([integrated_time(s.float(), least=0.0) for s in series]).nanmean())
            for series in (torch.stack(products, 1), torch.stack(energies, 1).unsqueeze(-1))
        ]
        tau = max(1.0, *times)
        resolved = sweeps >= LONG_ENOUGH * tau
        if resolved or 2 * sweeps > most:
            break
        sweeps *= 2
    made = float((tempering.round_trips - trips).mean())
    return ChainReads(
        per_sweep * tau,
        tau,
        tempering.num_temperatures,
        (FIRST_SWEEPS + sweeps) / made if made else float("inf"),
        resolved,
    )


def reads_of(
    name: str, problem: IsingBatch, num_reads: int, seed: int = 0
) -> tuple[SpinSamples, float, bool]:
    """Reads of a backend, CPU seconds for each, and whether it gave no warning about them."""
    backend = get_backend(name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", EquilibriumWarning)
        start = time.process_time()
        samples = backend.sample(problem, num_reads=num_reads, seed=seed)
        seconds = time.process_time() - start
    warned = any(w.category is EquilibriumWarning for w in caught)
    return samples, seconds / num_reads, not warned
