r"""Gibbs sweeps of the target distribution over reads that a backend returned."""

import torch
from jaxtyping import Float
from torch import Tensor

from qattn._clock import sampling_clock
from qattn.backends.base import Backend, drawn_seed
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples

CHUNK_ELEMENTS = 1 << 18
"""Spins that are swept at a time, so that they stay in the cache."""

FORWARDED = ("open", "close", "state_dict", "load_state_dict", "metrics", "provenance")
"""Methods of a refined backend that are its inner backend's own."""


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
    h, J = batch.scaled()
    generator = torch.Generator(h.device).manual_seed(drawn_seed(seed))
    step = max(1, CHUNK_ELEMENTS // (G * n * max(1, samples.num_reads)))
    active = batch.active.expand(G, Q, n)
    with sampling_clock.running(h.device):
        swept = [
            _swept(*chunk, J, num_sweeps, generator)
            for chunk in zip(
                samples.spins.split(step, 1), h.split(step, 1), active.split(step, 1), strict=True
            )
        ]
    return SpinSamples(torch.cat(swept, 1), samples.weights, samples.info)


def _swept(
    spins: Tensor,
    h: Float[Tensor, "g q n"],
    active: Tensor,
    J: Float[Tensor, "g n n"],
    num_sweeps: int,
    generator: torch.Generator,
) -> Tensor:
    """The reads after the sweeps; with the spin axis first, so that each spin is contiguous."""
    G, Q, R, n = spins.shape
    s = spins.permute(0, 3, 1, 2).to(h.dtype).contiguous()
    columns = s.view(G, n, Q * R)
    for _ in range(num_sweeps):
        for j in range(n):
            field = (J[:, j : j + 1] @ columns).view(G, Q, R) + h[:, :, j : j + 1]
            up = torch.rand(field.shape, generator=generator, dtype=h.dtype, device=h.device)
            up = up < (2 * field).sigmoid_()
            s[:, j] = (2 * up.to(h.dtype) - 1) * active[:, :, j : j + 1]
    return s.permute(0, 2, 3, 1).to(torch.int8).contiguous()


class RefinedBackend(Backend):
    """A backend followed by Gibbs sweeps: what ``get_backend(name, refine_sweeps=…)`` returns.

    Args:
        backend: Where the reads come from.
        refine_sweeps: Number of sweeps over them.
    """

    def __init__(self, backend: Backend, refine_sweeps: int) -> None:
        if refine_sweeps < 0:
            raise ValueError(
                f"Argument `refine_sweeps` must not be negative, but is {refine_sweeps}."
            )
        self.backend = backend
        self.refine_sweeps = refine_sweeps
        for name in FORWARDED:
            setattr(self, name, getattr(backend, name))

    def sample(self, batch: IsingBatch, *, num_reads: int, seed: int | None = None) -> SpinSamples:
        """Draw reads and refine them; see :meth:`Backend.sample`."""
        first, second = (
            (None, None)
            if seed is None
            else torch.randint(2**31, (2,), generator=torch.Generator().manual_seed(seed)).tolist()
        )
        samples = self.backend.sample(batch, num_reads=num_reads, seed=first)
        return refine(samples, batch, self.refine_sweeps, second)
