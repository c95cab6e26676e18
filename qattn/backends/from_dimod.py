"""Any dimod sampler as a backend."""

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Literal

import dimod
import numpy as np
import torch
from dimod.core.sampler import Sampler
from jaxtyping import Int8
from numpy.typing import NDArray
from torch import Tensor

from qattn._clock import sampling_clock
from qattn.backends.base import Backend, drawn_seed
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples
from qattn.ising.union_bqm import join_reads, slices, split_union, union_bqm

MAX_UNION_SPINS = 1 << 14
"""Default bound on the variables of one union BQM."""


class DimodBackend(Backend):
    r"""A backend made of a ``dimod.Sampler``.

    The sampler is given E(s) = -β(Σ h s + Σ J s s), to be sampled at β = 1: whether what it
    returns is distributed as exp(-E) is the sampler's affair, and so is scaling. Equal reads that
    it aggregated keep their ``num_occurrences`` as weights.

    What can be seen of a sampler is checked: that it takes a number of reads, returns as many, and
    returns the problem's variables. What cannot be seen in its reads is whether it draws them or
    looks for the lowest energies, as tabu search, steepest descent, hybrid solvers and the default
    schedule of ``SimulatedAnnealingSampler`` do: then reads are too cold, as ``qattn compare``,
    :func:`qattn.pseudolikelihood.fit_betas` or :class:`qattn.testing.BackendConformance` show.

    >>> import torch
    >>> from qattn import DimodBackend, IsingBatch, as_dimod_sampler, get_backend
    >>> backend = DimodBackend(as_dimod_sampler(get_backend("exact")))  # or any dimod.Sampler
    >>> batch = IsingBatch(h=torch.full((1, 1, 3), 9.0), J=torch.zeros(1, 3, 3))
    >>> backend.sample(batch, num_reads=2, seed=0).spins.tolist()
    [[[[1, 1, 1], [1, 1, 1]]]]

    Args:
        sampler: The sampler; its ``parameters`` name ``num_reads``, and ``seed`` if it takes one.
        union: Give it the whole batch as one BQM of disjoint blocks (the default), or one BQM
            per query, for samplers that aggregate or that have a size limit.
        max_union_spins: Bound on the variables of a union BQM; larger batches are cut in several.
        **sample_kwargs: Further arguments of ``sampler.sample``.

    Raises:
        TypeError: `sampler` is no dimod sampler.
        ValueError: It takes no number of reads, or `sample_kwargs` fix one.
    """

    name: ClassVar[str] = "dimod"
    description: ClassVar[str] = "any dimod.Sampler"

    def __init__(
        self,
        sampler: Sampler,
        *,
        union: bool = True,
        max_union_spins: int = MAX_UNION_SPINS,
        **sample_kwargs: Any,
    ) -> None:
        if not isinstance(sampler, Sampler):
            raise TypeError(
                f"Argument `sampler` must be a dimod.Sampler, but is {type(sampler).__name__}."
            )
        if "num_reads" not in sampler.parameters:
            raise ValueError(
                f"Argument `sampler` must take num_reads, but {type(sampler).__name__} does not: "
                f"solvers that list or search states do not draw reads."
            )
        if "num_reads" in sample_kwargs:
            raise ValueError(
                "Argument `sample_kwargs` must not fix num_reads: every call of `sample` sets it."
            )
        self.sampler = sampler
        self.max_union_spins = max_union_spins if union else 0
        self.sample_kwargs = sample_kwargs

    def sample(self, batch: IsingBatch, *, num_reads: int, seed: int | None = None) -> SpinSamples:
        """Draw reads; see :meth:`Backend.sample`.

        A sampler that returns more or fewer reads than it was asked for gives a warning; what it
        returned is kept, with weights where queries differ.

        Raises:
            ValueError: The sampler returns no reads, or reads of other variables.
        """
        seeded = "seed" in self.sampler.parameters

        def sample_bqm(bqm: dimod.BinaryQuadraticModel, seed: int) -> dimod.SampleSet:
            kwargs = {"num_reads": num_reads} | ({"seed": seed} if seeded else {})
            sampleset: dimod.SampleSet = self.sampler.sample(bqm, **(kwargs | self.sample_kwargs))
            self._count(sampleset, num_reads)
            return sampleset

        with sampling_clock.running(batch.h.device):
            return sample_unions(
                batch,
                sample_bqm,
                num_reads=num_reads,
                seed=drawn_seed(seed),
                max_spins=self.max_union_spins,
            )

    def _count(self, sampleset: dimod.SampleSet, num_reads: int) -> None:
        returned, name = int(sampleset.record.num_occurrences.sum()), type(self.sampler).__name__
        if returned == 0:
            raise ValueError(f"Sampler {name} returned no reads, but was asked for {num_reads}.")
        if returned != num_reads:
            warnings.warn(
                f"Sampler {name} returned {returned} reads, but was asked for {num_reads}: "
                f"estimates have the noise of {returned}.",
                stacklevel=5,
            )


def sample_unions(
    batch: IsingBatch,
    sample_bqm: Callable[..., dimod.SampleSet],
    *,
    num_reads: int,
    seed: int,
    max_spins: int,
    num_threads: int = 1,
    initial_states: Int8[Tensor, "groups queries reads spins"] | None = None,
) -> SpinSamples:
    """Reads of a batch through union BQMs with the energies -β(Σ h s + Σ J s s).

    The BQMs have dimod's sign: linear biases -βh and quadratic biases -βJ, sampled at β = 1.

    Args:
        batch: The models.
        sample_bqm: Takes a BQM and a seed below 2^31, another one for every BQM; and where there
            are `initial_states`, those of the BQM, int8 of shape (reads, variables).
        num_reads: Reads of queries without spins, which no sampler is given.
        seed: Where the seeds come from.
        max_spins: Bound on the variables of one BQM; a single query may exceed it.
        num_threads: BQMs that are sampled at a time; the reads do not depend on it.
        initial_states: States from which each read of a query starts; None leaves that to
            `sample_bqm`.
    """
    h, J = batch.scaled()
    models = IsingBatch(h.detach(), J.detach(), batch.lengths, validate=False)
    linear, quadratic = models.dimod_biases()
    lengths = models.num_active.ravel()
    # Queries without spins are not sampled: their rows stay 0.
    (present,) = lengths.nonzero()
    lengths, linear, group = lengths[present], linear[present], models.group_of_problem[present]
    starts = None
    if initial_states is not None:
        starts = initial_states.flatten(0, 1).cpu().numpy()[present]
    parts = list(slices(lengths, max_spins))
    seeds = np.random.SeedSequence(seed).generate_state(len(parts)) >> 1  # below 2^31

    def sample_part(part: slice, part_seed: int) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
        bqm = union_bqm(linear[part], quadratic, group[part], lengths[part])
        start = () if starts is None else (join_reads(starts[part], lengths[part]),)
        sampleset = sample_bqm(bqm, part_seed, *start).change_vartype(dimod.SPIN, inplace=False)
        reads, occurrences = split_union(sampleset, lengths[part], batch.num_spins)
        return reads, np.broadcast_to(occurrences, reads.shape[:2])

    if num_threads > 1 and len(parts) > 1:
        with ThreadPoolExecutor(num_threads) as pool:
            results = list(pool.map(sample_part, parts, seeds.tolist()))
    else:
        results = [sample_part(*args) for args in zip(parts, seeds.tolist(), strict=True)]
    spins, counts = [reads for reads, _ in results], [count for _, count in results]

    # Parts that aggregate equal reads differ in rows: all are lengthened to the longest, and
    # weights are needed as soon as a row stands for other than one read.
    rows = max((reads.shape[1] for reads in spins), default=num_reads)
    shape = (batch.num_groups, batch.num_queries)
    all_spins = np.zeros((shape[0] * shape[1], rows, batch.num_spins), np.int8)
    weights = None
    if any(count.shape[1] < rows or (count != 1).any() for count in counts):
        weights = np.zeros(all_spins.shape[:2])
        weights[:, 0] = num_reads
    if spins:
        all_spins[present] = np.concatenate([_lengthened(x, rows, "edge") for x in spins])
        if weights is not None:
            weights[present] = np.concatenate([_lengthened(x, rows, "constant") for x in counts])
    return SpinSamples(
        torch.from_numpy(all_spins).unflatten(0, shape).to(h.device),
        None if weights is None else torch.from_numpy(weights).unflatten(0, shape).to(h),
    )


def _lengthened(x: NDArray[Any], rows: int, mode: Literal["edge", "constant"]) -> NDArray[Any]:
    """More rows: copies of the last read (which then have weight 0), or zeros."""
    widths = [(0, 0), (0, rows - x.shape[1]), *[(0, 0)] * (x.ndim - 2)]
    return np.pad(x, widths, mode)
