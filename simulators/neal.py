"""D-Wave's simulated annealing as a Boltzmann sampler: reads in equilibrium at the target β."""

from dataclasses import dataclass
from typing import ClassVar

import dimod
import numpy as np
import torch
from numpy.typing import NDArray

from qattn._clock import sampling_clock
from qattn.backends.base import Backend, drawn_seed
from qattn.backends.from_dimod import sample_unions
from qattn.backends.options import option
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples

MAX_UNION_SPINS = 1 << 11
"""Variables of one union BQM: enough to spread a call's overhead, few enough for the cache."""


class NealBackend(Backend):
    r"""Reads from independent Gibbs chains of ``dwave.samplers.SimulatedAnnealingSampler``.

    The library's default schedule ends at a β of its own choice, far colder than the target, since
    it looks for ground states. Here every read starts from random spins and is swept
    `num_sweeps` times at the target β itself, in sequential order with Gibbs acceptance: Metropolis
    in that order can be periodic on flat landscapes, and random order needs about five times the
    sweeps. A chain that has forgotten its start is an independent read, so what remains is the
    noise of the number of reads. Large batches run on as many threads as PyTorch has
    (``torch.set_num_threads``).

    The default number of sweeps reaches the noise floor of 1,000 reads for attention-like problems
    (fields of standard deviation 1, couplings of 0.3 at 12 spins); strong couplings need more. A
    ramp shortens the burn-in where strong couplings trap a chain.

    >>> import torch
    >>> from qattn import IsingBatch
    >>> batch = IsingBatch(h=torch.full((1, 1, 3), 9.0), J=torch.zeros(1, 3, 3))
    >>> NealBackend(num_sweeps=5).sample(batch, num_reads=2, seed=0).spins.tolist()
    [[[[1, 1, 1], [1, 1, 1]]]]

    Raises:
        ValueError: `num_sweeps` is not positive, or `ramp_sweeps` is negative.
    """

    name: ClassVar[str] = "neal"
    description: ClassVar[str] = "simulated annealing at the target β (dwave-samplers), any size"
    requires: ClassVar[dict[str, str]] = {"dwave.samplers": "dwave-samplers"}

    @dataclass(frozen=True)
    class Options(Backend.Options):
        """How the chains are swept."""

        num_sweeps: int = option(20, "Sweeps of a chain at the target β.")
        ramp_sweeps: int = option(
            0, "Sweeps before those, at β rising linearly from 0 to the target."
        )

        def __post_init__(self) -> None:
            if self.num_sweeps < 1:
                raise ValueError(
                    f"Argument `num_sweeps` must be positive, but is {self.num_sweeps}."
                )
            if self.ramp_sweeps < 0:
                raise ValueError(
                    f"Argument `ramp_sweeps` must not be negative, but is {self.ramp_sweeps}."
                )

    options: Options

    @property
    def beta_schedule(self) -> NDArray[np.float64]:
        """Each sweep's β in units of the target's."""
        ramp_sweeps = self.options.ramp_sweeps
        ramp = np.arange(1, ramp_sweeps + 1) / (ramp_sweeps + 1)
        return np.concatenate([ramp, np.ones(self.options.num_sweeps)])

    def sample(self, batch: IsingBatch, *, num_reads: int, seed: int | None = None) -> SpinSamples:
        """Draw reads; see :meth:`Backend.sample`."""
        from dwave.samplers import SimulatedAnnealingSampler

        sampler, beta_schedule = SimulatedAnnealingSampler(), self.beta_schedule

        def anneal(bqm: dimod.BinaryQuadraticModel, seed: int) -> dimod.SampleSet:
            return sampler.sample(
                bqm,
                num_reads=num_reads,
                beta_schedule_type="custom",
                beta_schedule=beta_schedule,
                proposal_acceptance_criteria="Gibbs",
                seed=seed,
            )

        with sampling_clock.running(batch.h.device):
            return sample_unions(
                batch,
                anneal,
                num_reads=num_reads,
                seed=drawn_seed(seed),
                max_spins=MAX_UNION_SPINS,
                num_threads=torch.get_num_threads(),
            )
