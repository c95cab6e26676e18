r"""Gibbs sweeps of the target distribution over reads that a backend returned."""

import torch

from qattn._clock import sampling_clock
from qattn.backends.base import Backend, drawn_seed
from qattn.chains.sweeps import Chains
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples

FORWARDED = (
    *("divide", "open", "close", "resume", "state_dict", "load_state_dict"),
    *("metrics", "provenance", "paid"),
)
"""What of a refined backend is its inner backend's own."""


@torch.no_grad()
def refine(
    samples: SpinSamples, batch: IsingBatch, num_sweeps: int, seed: int | None = None
) -> SpinSamples:
    r"""Sweep over the spins of every read and draw each anew given the others.

    .. math:: p(s_j = 1 \mid s_{\setminus j}) = \sigma(2 \beta b_j), \qquad
              b_j = h_j + \sum_k J_{jk} s_k

    A sweep leaves the Boltzmann distribution as it is and brings every other distribution of
    reads nearer to it (no sweep raises the Kullback-Leibler divergence).

    Args:
        samples: Reads of `batch`. Their weights are kept; rows that stand for several equal
            reads move together, so draw unaggregated reads where that matters.
        batch: The models.
        num_sweeps: Number of sweeps.
        seed: Seed of the draws; None means one from PyTorch's global generator.

    Raises:
        ValueError: `num_sweeps` is negative, or `samples` are not reads of `batch`.
    """
    if num_sweeps < 0:
        raise ValueError(f"Argument `num_sweeps` must not be negative, but is {num_sweeps}.")
    G, Q, n = batch.h.shape
    if samples.spins.shape[:2] != (G, Q) or samples.spins.shape[3] != n:
        raise ValueError(
            f"Argument `samples` must hold reads of shape ({G}, {Q}, reads, {n}) to match "
            f"`batch`, but has shape {tuple(samples.spins.shape)}."
        )
    if num_sweeps == 0:
        return samples
    chains = Chains(batch, samples.spins)
    generator = torch.Generator(batch.h.device).manual_seed(drawn_seed(seed))
    with sampling_clock.running(batch.h.device):
        chains.sweep(num_sweeps, generator)
        return SpinSamples(chains.spins, samples.weights, samples.info)


class RefinedBackend(Backend):
    """A backend followed by Gibbs sweeps: what ``get_backend(name, refine_sweeps=…)`` returns.

    Args:
        backend: Where the reads come from.
        refine_sweeps: Number of sweeps over them.
    """

    takes_structure = True

    def __init__(self, backend: Backend, refine_sweeps: int) -> None:
        if refine_sweeps < 0:
            raise ValueError(
                f"Argument `refine_sweeps` must not be negative, but is {refine_sweeps}."
            )
        self.backend = backend
        self.refine_sweeps = refine_sweeps
        for name in FORWARDED:
            setattr(self, name, getattr(backend, name))

    @property
    def replaying(self) -> bool:
        """See :attr:`Backend.replaying`."""
        return self.backend.replaying

    def sample(self, batch: IsingBatch, *, num_reads: int, seed: int | None = None) -> SpinSamples:
        """Draw reads and refine them; see :meth:`Backend.sample`."""
        first, second = (
            (None, None)
            if seed is None
            else torch.randint(2**31, (2,), generator=torch.Generator().manual_seed(seed)).tolist()
        )
        samples = self.backend.sample(batch, num_reads=num_reads, seed=first)
        return refine(samples, batch, self.refine_sweeps, second)
