"""Reads of a backend at a ladder of inverse temperatures whose neighbours overlap."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int8
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from qattn.backends import Backend, drawn_seed
from qattn.couplings import Couplings
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples
from qattn.thermodynamics.curves.jackknife import whole_blocks

TEMPERATURES = (8, 64)
"""Least number of temperatures to begin with, and most of all."""


@dataclass(frozen=True, eq=False)
class Reads:
    """Reads of every query at one temperature, in whole blocks.

    Attributes:
        spins: The reads; 0 at absent spins.
        weights: What each counts, with mean 1.
        energies: Their energies E in float64, at β = 1 of the batch.
    """

    spins: Int8[Tensor, "groups queries reads spins"]
    weights: Float[Tensor, "groups queries reads"]
    energies: Float[Tensor, "groups queries reads"]


class Ladder:
    """Reads at inverse temperatures that ascend from 0; more may be added.

    Args:
        batch: The models.
        top: The largest β, in units that multiply the batch's own.
        backend: Where reads come from; at β = 0 they are thrown coins.
        num_reads: Reads of each temperature.
        seed: Seed of all draws; None for one from PyTorch's global generator.

    Attributes:
        betas: The inverse temperatures.
        reads: The reads at each of them.
        generator: Source of further randomness.
    """

    def __init__(
        self, batch: IsingBatch, top: float, backend: Backend, num_reads: int, seed: int | None
    ) -> None:
        h, J = batch.scaled_structure()
        self._h, self._J, self._lengths = h.detach(), J.detach(), batch.lengths
        self._exact = IsingBatch(
            self._h.double(), self._J.to(torch.float64), batch.lengths, validate=False
        )
        self._active = batch.active
        self._backend, self._num_reads = backend, whole_blocks(num_reads)
        self._seed = drawn_seed(seed)
        self.generator = torch.Generator().manual_seed(self._seed)
        shape = (*batch.h.shape[:2], self._num_reads, batch.num_spins)
        coins = torch.randint(0, 2, shape, generator=self.generator, dtype=torch.int8) * 2 - 1
        free = self._reads(SpinSamples(coins.to(h.device) * self._active.unsqueeze(2)), 1)[0]
        if not bool(free.energies.isfinite().all()):
            raise ValueError(
                "Argument `batch` must have finite energies for curves from reads, but its "
                "couplings forbid states: leave out `backend`, their curves are exact."
            )
        # Energies at β = 0 have this standard deviation: then a step of β shifts them by as much.
        steps = float(free.energies.std(-1).amax()) * top
        number = min(max(int(steps) + 2, TEMPERATURES[0]), TEMPERATURES[1])
        self.betas = torch.zeros(1, dtype=torch.float64)
        self.reads = [free]
        self.add(torch.linspace(0, top, number, dtype=torch.float64)[1:])

    def add(self, betas: Float[Tensor, " betas"]) -> None:
        """Draw reads at further β, all in one call of the backend."""
        G, K = self._h.shape[0], len(betas)
        J = self._J
        lengths = self._lengths
        if lengths is not None and lengths.ndim == 2:
            lengths = lengths.repeat(K, 1)
        at_all = IsingBatch(
            self._h.repeat(K, 1, 1),
            J.repeated(K) if isinstance(J, Couplings) else J.repeat(K, 1, 1),
            lengths,
            betas.to(self._h).repeat_interleave(G),
            validate=False,
        )
        seed = self._seed + len(self.betas)
        samples = self._backend.sample(at_all, num_reads=self._num_reads, seed=seed)
        order = torch.cat([self.betas, betas]).argsort()
        reads = self.reads + self._reads(samples, K)
        self.betas = torch.cat([self.betas, betas])[order]
        self.reads = [reads[i] for i in order.tolist()]

    def _reads(self, samples: SpinSamples, number: int) -> list[Reads]:
        """The reads of each temperature, with their energies."""
        spins, weights = in_blocks(samples, self.generator)
        return [
            Reads(s.cpu(), w, self._exact.energies(s).cpu())
            for s, w in zip(spins.chunk(number), weights.chunk(number), strict=True)
        ]


def in_blocks(
    samples: SpinSamples, generator: torch.Generator
) -> tuple[Int8[Tensor, "g q reads n"], Float[Tensor, "g q reads"]]:
    """Reads in whole blocks, and what each counts, with mean 1.

    Rows that stand for several equal reads become single reads in random order: their own order,
    which told what follows what, is lost.
    """
    spins, weights = samples.spins, samples.weights
    if weights is None:
        weights = torch.ones(spins.shape[:3], dtype=torch.float64)
    elif bool((weights == weights.round()).all()):
        rows, counts = spins.flatten(0, 1), weights.flatten(0, 1).long()
        drawn = [
            s.repeat_interleave(c, 0)[
                torch.randperm(int(c.sum()), generator=generator).to(s.device)
            ]
            for s, c in zip(rows, counts, strict=True)
        ]
        spins = pad_sequence(drawn, batch_first=True).unflatten(0, spins.shape[:2]).to(spins.device)
        ones = [torch.ones(len(s), dtype=torch.float64) for s in drawn]
        weights = pad_sequence(ones, batch_first=True).unflatten(0, spins.shape[:2])
    # Reads that are missing in the last block count nothing.
    missing = whole_blocks(spins.shape[2]) - spins.shape[2]
    spins = torch.nn.functional.pad(spins, (0, 0, 0, missing))
    weights = torch.nn.functional.pad(weights.double().cpu(), (0, missing))
    return spins, weights * weights.shape[2] / weights.sum(-1, keepdim=True)
