"""D-Wave's simulated annealing as a Boltzmann sampler: reads in equilibrium at the target β."""

import time
from dataclasses import dataclass
from typing import ClassVar

import dimod
import numpy as np
import torch
from jaxtyping import Int8
from numpy.typing import NDArray
from torch import Tensor

from qattn._clock import sampling_clock
from qattn.backends.base import Backend, drawn_seed
from qattn.backends.from_dimod import sample_unions
from qattn.backends.options import option
from qattn.chains import Doubling, equilibrium
from qattn.chains.equilibrium import warn_of
from qattn.chains.settle import enough_chains, opposite_starts
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples
from qattn.simulators.chain_options import ChainOptions

MAX_UNION_SPINS = 1 << 11
"""Variables of one union BQM: enough to spread a call's overhead, few enough for the cache."""


class NealBackend(Backend):
    r"""Reads in equilibrium from Gibbs chains of ``dwave.samplers.SimulatedAnnealingSampler``.

    The library's default schedule ends at a β of its own choice, far colder than the target, since
    it looks for ground states. Here chains are swept at the target β itself, in sequential order
    with Gibbs acceptance: Metropolis in that order can be periodic on flat landscapes, and random
    order needs about five times the sweeps. A chain that has forgotten its start is an independent
    read, so what remains is the noise of the number of reads.

    How many sweeps that takes depends on the couplings. With ``num_sweeps="auto"``, the default,
    reads come alternately from chains that start with all spins up and with all spins down. After
    5, 10, 20, … sweeps the two groups are compared (:class:`qattn.chains.Equilibrium`) until they
    agree, on average and in each query, and then swept as often again. If they do not agree within
    `max_sweeps`, or if the decay of their difference says that they will not, an
    :class:`~qattn.quality.EquilibriumWarning` names the queries: the backend ``gibbs`` has
    tempering for them. At least 32 chains are run, and the first `num_reads` of them returned. A
    number of sweeps is done as it is, from random spins, whether it is enough or not.

    ``info`` has ``num_sweeps``, ``z2`` (1 in equilibrium; mean over the batch), ``worst_z2`` and
    ``worst_query`` as (group, query), whether the reads are ``in_equilibrium``, and ``seconds``.

    Large batches run on as many threads as PyTorch has (``torch.set_num_threads``); the reads do
    not depend on it.

    >>> import torch
    >>> from qattn import IsingBatch
    >>> batch = IsingBatch(h=torch.full((1, 1, 3), 9.0), J=torch.zeros(1, 3, 3))
    >>> reads = NealBackend().sample(batch, num_reads=2, seed=0)
    >>> reads.spins.tolist(), reads.info["num_sweeps"]
    ([[[[1, 1, 1], [1, 1, 1]]]], 10)

    Raises:
        ValueError: A number is out of range, or a ramp is asked for without a number of sweeps.
    """

    name: ClassVar[str] = "neal"
    description: ClassVar[str] = "simulated annealing at the target β (dwave-samplers), any size"
    requires: ClassVar[dict[str, str]] = {"dwave.samplers": "dwave-samplers"}

    @dataclass(frozen=True)
    class Options(ChainOptions):
        """How the chains are swept."""

        ramp_sweeps: int = option(
            0, "Sweeps before those, at β rising linearly from 0 to the target."
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.ramp_sweeps < 0:
                raise ValueError(
                    f"Argument `ramp_sweeps` must not be negative, but is {self.ramp_sweeps}."
                )
            if self.ramp_sweeps and self.num_sweeps == "auto":
                raise ValueError(
                    f"Argument `ramp_sweeps` must be 0 with num_sweeps='auto', but is "
                    f"{self.ramp_sweeps}: a ramp from β = 0 forgets the opposite starts, so that "
                    f"nothing could be tested. Give a number of sweeps."
                )

    options: Options

    def sample(self, batch: IsingBatch, *, num_reads: int, seed: int | None = None) -> SpinSamples:
        """Draw reads; see :meth:`Backend.sample`."""
        seed = drawn_seed(seed)
        num_sweeps, ramp_sweeps = self.options.num_sweeps, self.options.ramp_sweeps
        with sampling_clock.running(batch.h.device):
            if num_sweeps == "auto":
                return self._in_equilibrium(batch, num_reads, seed)
            ramp = np.arange(1, ramp_sweeps + 1) / (ramp_sweeps + 1)
            schedule = np.concatenate([ramp, np.ones(num_sweeps)])
            return _swept(batch, schedule, num_reads, seed)

    def _in_equilibrium(self, batch: IsingBatch, num_reads: int, seed: int) -> SpinSamples:
        """Reads of chains that were swept until those from opposite starts agreed, or a warning."""
        start = time.perf_counter()
        num_chains = enough_chains(num_reads)
        spins = opposite_starts(batch, num_chains)
        rule = Doubling(self.options.max_sweeps)
        while rule.next_sweeps:
            (part_seed,) = np.random.SeedSequence((seed, rule.sweeps)).generate_state(1).tolist()
            samples = _swept(batch, np.ones(rule.next_sweeps), num_chains, part_seed, spins)
            spins = samples.spins
            test = equilibrium(samples, batch)
            rule.record(test)
        if not rule.passed:
            why = (
                ", and it falls too slowly for max_sweeps" if rule.sweeps < rule.max_sweeps else ""
            )
            warn_of(
                test.suspects or list(np.ndindex(batch.num_groups, batch.num_queries)),
                f"after {rule.sweeps} sweeps of neal ({test}{why}): the backend gibbs goes on with "
                f"parallel tempering.",
            )
        info = test.summary() | {
            "num_sweeps": rule.sweeps,
            "in_equilibrium": rule.passed,
            "seconds": time.perf_counter() - start,
        }
        return SpinSamples(samples.spins[:, :, :num_reads], info=info)


def _swept(
    batch: IsingBatch,
    beta_schedule: NDArray[np.float64],
    num_reads: int,
    seed: int,
    initial_states: Int8[Tensor, "groups queries reads spins"] | None = None,
) -> SpinSamples:
    """Chains after a sweep at each β, in units of the target's, from random or given states."""
    from dwave.samplers import SimulatedAnnealingSampler

    sampler = SimulatedAnnealingSampler()

    def anneal(
        bqm: dimod.BinaryQuadraticModel, seed: int, states: NDArray[np.int8] | None = None
    ) -> dimod.SampleSet:
        return sampler.sample(
            bqm,
            num_reads=num_reads,
            beta_schedule_type="custom",
            beta_schedule=beta_schedule,
            proposal_acceptance_criteria="Gibbs",
            seed=seed,
            initial_states=None if states is None else (states, range(states.shape[1])),
        )

    return sample_unions(
        batch,
        anneal,
        num_reads=num_reads,
        seed=seed,
        max_spins=MAX_UNION_SPINS,
        num_threads=torch.get_num_threads(),
        initial_states=initial_states,
    )
