r"""Exact results of sparse models by tree decomposition, far beyond what enumeration reaches.

The cost is that of tables of 2^w numbers, w the width of an elimination order of the graph of
couplings (:mod:`qattn.exact.elimination`), instead of 2^n states: w = 1 for trees, 2 for a ring,
L for an open lattice of L rows, 20 for the 48 qubits of a Zephyr Z1, 23 for the 128 of a Chimera
C4. A coupling of 0 is no edge. The order is found once a graph; problems with the same graph are
summed side by side. All is computed in float64 (:mod:`qattn.exact.bucket_tree`).
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qattn._clock import sampling_clock
from qattn.couplings.base import check_finite
from qattn.exact import bucket_tree, memory
from qattn.exact.elimination import Elimination, elimination_of
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples

CHUNK_ENTRIES = 1 << 20
"""Numbers in the tables of problems that are summed side by side."""

CHUNK_READS = 1 << 22
"""Spins of reads that are drawn side by side."""


class Moments(NamedTuple):
    """What is known of each query, in the dtype of the batch."""

    log_Z: Float[Tensor, "groups queries"]
    mean: Float[Tensor, "groups queries spins"]
    pairs: Float[Tensor, "groups queries spins spins"]


class _Piece(NamedTuple):
    """Problems with the same graph: their numbers, couplings with β, and the order."""

    number: Int[Tensor, " problems"]
    h: Float[Tensor, "problems n"]
    J: Float[Tensor, "problems n n"]
    elimination: Elimination


_Found = tuple[Tensor, Tensor, Tensor, Tensor]
"""Numbers of problems, and their moments."""


def treewidth(batch: IsingBatch) -> int:
    """Width of the tables that the batch's widest graph needs: at least its treewidth.

    Raises:
        ValueError: It is above ``qattn.exact.elimination.MAX_WIDTH``.
    """
    return max((elimination.width for elimination, _ in _graphs(batch)), default=0)


def required_bytes(batch: IsingBatch, *, is_differentiated: bool = False) -> int:
    """Bytes that moments or reads take at the peak, up to four times too many.

    Args:
        batch: The models.
        is_differentiated: Whether h, J or β require gradients: the tables of all queries are then
            kept.

    Raises:
        ValueError: The graph of couplings is too wide.
    """
    needs = [
        _bytes_of(elimination, len(members) * batch.num_queries * is_differentiated)
        for elimination, members in _graphs(batch)
    ]
    return sum(needs) if is_differentiated else max(needs)


def moments(batch: IsingBatch) -> Moments:
    r"""log Z, ⟨s_j⟩, and ⟨s_j s_k⟩ of the coupled pairs (else 0; diagonal 1), 0 at absent spins.

    .. math:: \log Z = \log \sum_s \exp\Big(\beta\big(\sum_j h_j s_j
              + \sum_{j<k} J_{jk} s_j s_k\big)\Big)

    Differentiable in h, J and β, as PyTorch's operations are.

    Raises:
        ValueError: The graph of couplings is too wide, or h or J holds NaN or infinity.
        MemoryError: The tables need more than ``qattn.exact.memory.MEMORY_LIMIT``.

    A chain of 100 spins has ⟨s_j s_{j+1}⟩ = tanh J and Z = 2 (2 cosh J)^99:

    >>> J = torch.diag(torch.full((99,), 0.5, dtype=torch.float64), 1)
    >>> chain = IsingBatch(torch.zeros(1, 1, 100, dtype=torch.float64), (J + J.mT).unsqueeze(0))
    >>> log_Z, _, pairs = moments(chain)
    >>> round(float(pairs[0, 0, 0, 1]), 6), round(float(log_Z), 4)
    (0.462117, 81.2061)
    """
    with sampling_clock.running(batch.h.device):
        found = [_moments_of(piece) for piece in _pieces(batch)]
    return _restored(batch, found)


@torch.no_grad()
def sample(batch: IsingBatch, num_reads: int, seed: int | None = None) -> SpinSamples:
    """Independent reads from the exact Boltzmann distribution of every query.

    Args:
        batch: The models.
        num_reads: Number of reads per query.
        seed: Seed of the draw; None means PyTorch's global generator. The same seed gives
            the same reads on one device type.

    Returns:
        Reads, and ``info`` with the "treewidth" of the widest graph's order and "log_Z", a tensor
        of shape (groups, queries).

    Raises:
        ValueError: `num_reads` is not positive, or as :func:`moments`.
        MemoryError: As :func:`moments`.
    """
    if num_reads < 1:
        raise ValueError(f"Argument `num_reads` must be positive, but is {num_reads}.")
    G, Q, n = batch.h.shape
    device = batch.h.device
    generator = None if seed is None else torch.Generator(device).manual_seed(seed)
    spins = torch.zeros(G * Q, num_reads, n, dtype=torch.int8, device=device)
    log_Z = torch.zeros(G * Q, dtype=torch.float64, device=device)
    with sampling_clock.running(device):
        for number, h, J, elimination in _pieces(batch):
            log_Z[number], up, _ = bucket_tree.eliminate(h, J, elimination)
            for reads in torch.arange(num_reads).split(max(1, CHUNK_READS // (len(h) * n))):
                part = slice(int(reads[0]), int(reads[-1]) + 1)
                spins[number, part] = bucket_tree.draw(up, elimination, len(reads), generator)
    spins = spins.view(G, Q, num_reads, n) * batch.active.unsqueeze(2)
    log_Z = _of_present_spins(log_Z.view(G, Q), batch)
    return SpinSamples(spins, info={"treewidth": treewidth(batch), "log_Z": log_Z})


def _moments_of(piece: _Piece) -> _Found:
    log_Z, up, _ = bucket_tree.eliminate(piece.h, piece.J, piece.elimination)
    mean, pairs = bucket_tree.moments(up, piece.elimination)
    return piece.number, log_Z, mean, pairs * (piece.J != 0)


def _restored(batch: IsingBatch, found: list[_Found]) -> Moments:
    """The pieces' values in the order and dtype of the batch."""
    number, log_Z, mean, pairs = (torch.cat(values) for values in zip(*found, strict=True))
    place, shape, dtype = number.argsort(), batch.h.shape, batch.h.dtype
    log_Z = _of_present_spins(log_Z[place].view(shape[:2]), batch)
    same_spin = torch.diag_embed(batch.active.expand(shape).double())
    pairs = pairs[place].view(*shape, shape[2]) + same_spin
    return Moments(log_Z.to(dtype), mean[place].view(shape).to(dtype), pairs.to(dtype))


def _of_present_spins(log_Z: Tensor, batch: IsingBatch) -> Tensor:
    """Without the absent spins, which were summed as free ones: log 2 each."""
    absent = batch.num_spins - batch.active.sum(-1).expand_as(log_Z)
    return log_Z - absent * torch.tensor(2.0, dtype=log_Z.dtype).log()


def _graphs(batch: IsingBatch) -> Iterator[tuple[Elimination, list[int]]]:
    """Elimination orders, and the groups whose graph they belong to."""
    _, J = batch.scaled()
    present = batch.active.any(1).expand(batch.num_groups, -1)
    coupled = (J.detach() != 0) & present.unsqueeze(1) & present.unsqueeze(2)
    groups: dict[bytes, list[int]] = {}
    for g, adjacency in enumerate(coupled.cpu().numpy()):
        groups.setdefault(adjacency.tobytes(), []).append(g)
    for members in groups.values():
        yield elimination_of(coupled[members[0]]), members


def _pieces(batch: IsingBatch) -> Iterator[_Piece]:
    """The queries as problems of their own, few enough of one graph for the memory."""
    h, J = batch.scaled()
    check_finite("h", h)
    check_finite("J", J)
    Q, active = batch.num_queries, batch.active.expand(batch.h.shape)
    is_differentiated = torch.is_grad_enabled() and (h.requires_grad or J.requires_grad)
    _check_memory(required_bytes(batch, is_differentiated=is_differentiated))
    for elimination, members in _graphs(batch):
        queries = torch.tensor([[g * Q + q for q in range(Q)] for g in members]).flatten()
        for number in queries.split(max(1, CHUNK_ENTRIES // elimination.num_entries)):
            g, q = number // Q, number % Q
            # Absent spins become free ones; gradients go to both entries of the symmetric J.
            there = active[g, q].double()
            couplings = (J + J.mT)[g].double() / 2 * there.unsqueeze(1) * there.unsqueeze(2)
            yield _Piece(number.to(h.device), h[g, q].double() * there, couplings, elimination)


def _bytes_of(elimination: Elimination, kept: int) -> int:
    """Bytes at the peak, measured: one problem's tables and temporary ones, or all that are kept.

    Args:
        elimination: The order.
        kept: Number of problems whose tables a backward pass needs.
    """
    entries, widest = elimination.num_entries, 1 << elimination.width
    return 8 * (kept * 14 * entries + 12 * widest if kept else 2 * entries + 10 * widest)


def _check_memory(need: int) -> None:
    if need > memory.MEMORY_LIMIT:
        raise MemoryError(
            f"The tree decomposition needs about {need / 2**30:.3g} GiB, and the limit is "
            f"{memory.MEMORY_LIMIT / 2**30:.3g} GiB: use a sampling backend, or raise "
            f"qattn.exact.memory.MEMORY_LIMIT."
        )
