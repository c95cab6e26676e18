"""The problems of a batch split: one group each, at β = 1, in float64, none without spins."""

from collections.abc import Iterator

import torch
from torch import Tensor

from qattn.exact.memory import required_bytes
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples

PIECE_BYTES = 1 << 26
"""Bytes that exact enumeration of one piece of the problems may need."""


def one_group_per_problem(batch: IsingBatch) -> IsingBatch:
    """Every query with spins as a group of its own, with β in its h and J; detached, on the CPU.

    Raises:
        ValueError: No query has spins.
    """
    h, J = batch.scaled_structure()
    h, J = h.detach().to("cpu", torch.float64), J.detach().to("cpu", torch.float64)
    sizes = torch.from_numpy(batch.num_active.copy()).flatten()
    kept = sizes > 0
    n = int(sizes.max()) if len(sizes) else 0
    if n == 0:
        raise ValueError("Argument `batch` must hold a query with spins, but holds none.")
    group = torch.from_numpy(batch.group_of_problem)[kept]
    lengths = sizes[kept].unsqueeze(1)
    return IsingBatch(
        h.flatten(0, 1)[kept, None, :n],
        J[group, :n, :n] if isinstance(J, Tensor) else J[group].leading(n),
        None if batch.lengths is None else lengths,
    )


def split_by_problem(samples: SpinSamples, batch: IsingBatch) -> SpinSamples:
    """Reads of a batch as reads of its :func:`one_group_per_problem`.

    Raises:
        ValueError: `samples` are not reads of `batch`, or a problem's weights sum to nothing.
    """
    expected = (batch.num_groups, batch.num_queries, batch.num_spins)
    shape = (*samples.spins.shape[:2], samples.spins.shape[3])
    if shape != expected:
        raise ValueError(
            f"Argument `samples` must be reads of (groups, queries, spins) = {expected} like "
            f"`batch`, but are of {shape}."
        )
    sizes = torch.from_numpy(batch.num_active.copy()).flatten()
    kept, n = sizes > 0, int(sizes.max())
    spins = samples.spins.detach().cpu().flatten(0, 1)[kept, None, :, :n]
    weights = samples.weights
    if weights is not None:
        weights = weights.detach().to("cpu", torch.float64).flatten(0, 1)[kept, None]
    if spins.shape[2] == 0 or (weights is not None and not bool((weights.sum(-1) > 0).all())):
        raise ValueError(
            "Argument `samples` must hold a read of every problem, but some have none."
        )
    return SpinSamples(spins, weights, samples.info)


def pieces(batch: IsingBatch) -> Iterator[tuple[slice, IsingBatch]]:
    """Slices of the groups of a batch whose exact enumeration takes bounded memory."""
    need = required_bytes(1, batch.num_queries, batch.num_spins, batch.h.element_size())
    size = max(1, PIECE_BYTES // need)
    for start in range(0, batch.num_groups, size):
        part = slice(start, start + size)
        yield part, part_of(batch, part)


def part_of(batch: IsingBatch, part: slice | list[int]) -> IsingBatch:
    """Some of the groups of a batch."""
    lengths = None if batch.lengths is None else batch.lengths[part]
    return IsingBatch(batch.h[part], batch.J[part], lengths, validate=False)
