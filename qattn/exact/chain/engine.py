"""Bands of queries in any order: in tiles, and in log space where float64 underflows."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from qattn.couplings import Couplings
from qattn.exact import memory
from qattn.exact.chain import compiled, log_space, scan
from qattn.exact.chain.windows import SPINS_A_STEP, Windows
from qattn.exact.engine import Solution, present

TILE_ELEMENTS = 1 << 17
"""Numbers of one message of the queries that are solved together: what stays in the cache."""


def forward(
    h: Float[Tensor, "g n q"], couplings: Couplings, lengths: Int[Tensor, "#g q"]
) -> Solution:
    """Occupations and log Z."""
    values = _values(couplings)
    if values.shape[2] == 0:
        return _independent(h, lengths)
    if compiled.serves(h, values):
        up, log_Z, least = compiled.moments(h, values, lengths)
    else:
        _check_memory(values.shape[2], h.element_size())
        up, log_Z = torch.zeros_like(h), h.new_zeros(h.shape[0], h.shape[2])
        least = torch.ones_like(log_Z)
        for g, q, windows in _tiles(h, values, lengths):
            part, log_Z[g, q], least[g, q] = scan.moments(windows)
            up[g, : part.shape[1], q] = part[:, : h.shape[1]]

    # What has underflowed is below 2^w tiny of every message.
    info = torch.finfo(h.dtype)
    enough = 4 * (1 << values.shape[2]) * info.tiny / info.eps
    failed = ~((least >= enough) & log_Z.isfinite())
    if not bool(failed.any()):
        return Solution(up, log_Z, torch.ones_like(log_Z[0, 0], dtype=torch.bool), ())
    wrong = failed & ~_finite(h, values, lengths)
    up = up.masked_fill(wrong.unsqueeze(1) & present(h.shape[1], lengths, h.device), torch.nan)
    log_Z = log_Z.masked_fill(wrong, torch.nan)
    failed &= ~wrong
    if h.dtype != torch.float64:
        return Solution(up, log_Z, ~failed.any(), ())
    for groups, queries, *lane in log_space.Lanes(failed, h, values, lengths):
        up[groups, :, queries], log_Z[groups, queries] = log_space.moments(*lane)
    return Solution(up, log_Z, torch.ones_like(log_Z[0, 0], dtype=torch.bool), (failed,))


def backward(
    grad_up: Float[Tensor, "g n q"] | None,
    grad_log_Z: Float[Tensor, "g q"] | None,
    h: Float[Tensor, "g n q"],
    couplings: Couplings,
    lengths: Int[Tensor, "#g q"],
    solution: Solution,
) -> tuple[Float[Tensor, "g n q"], Tensor]:
    """Gradients in h and in the couplings' values."""
    values, up = _values(couplings), solution.up
    there = present(h.shape[1], lengths, h.device)
    grad_values = torch.zeros_like(couplings.values, memory_format=torch.contiguous_format)
    if grad_log_Z is not None:
        grad_log_Z = grad_log_Z.masked_fill(solution.log_Z.isnan(), torch.nan)
    if values.shape[2] == 0:
        if grad_up is not None:
            grad_h = 2 * grad_up * up * torch.sigmoid(-2 * h)
        else:
            assert grad_log_Z is not None
            grad_h = (2 * up - 1) * grad_log_Z.unsqueeze(1)
        return grad_h.masked_fill(~there, 0.0), grad_values

    log_space_too = solution.saved[0] if solution.saved else None
    linear = lengths
    if log_space_too is not None:
        linear = lengths.expand(log_space_too.shape).masked_fill(log_space_too.cpu(), 0)
    within = grad_values[..., : values.shape[2]]
    if compiled.serves(h, values):
        grad_h, part = compiled.gradients(grad_up, grad_log_Z, h, values, linear, up)
        within += part
    else:
        grad_h = torch.zeros_like(h)
        for g, q, windows in _tiles(h, values, linear):
            outer = None if grad_up is None else grad_up[g][..., q]
            outer_log_Z = None if grad_log_Z is None else grad_log_Z[g][..., q]
            first, second = scan.gradients(windows, outer, outer_log_Z, up[g][..., q])
            grad_h[g, : first.shape[1], q] = first[:, : h.shape[1]]
            within[g, : first.shape[1]] += second[:, : h.shape[1], : values.shape[2]]
    if log_space_too is not None:
        for groups, queries, x, J, L in log_space.Lanes(log_space_too, h, values, lengths):
            leaves = x.requires_grad_(), J.requires_grad_()
            lane_up, lane_log_Z = log_space.moments(*leaves, L)
            if grad_up is not None:
                grads = torch.autograd.grad(lane_up, leaves, grad_up[groups, :, queries])
            else:
                assert grad_log_Z is not None
                grads = torch.autograd.grad(lane_log_Z, leaves, grad_log_Z[groups, queries])
            grad_h[groups, :, queries], grad_J = grads
            within.index_add_(0, groups, grad_J)
    return grad_h.masked_fill(~there, 0.0), grad_values


def _values(couplings: Couplings) -> Float[Tensor, "g n w"]:
    """The couplings over distances that there are."""
    return couplings.values[..., : max(0, couplings.num_spins - 1)]


def _check_memory(width: int, itemsize: int) -> None:
    """Raise a MemoryError if the tables of all states of a window would exceed the limit."""
    spins = width + SPINS_A_STEP
    # The signs of all pairs, twice, and the states, as whole numbers and twice in h's dtype.
    need = (2 * SPINS_A_STEP * width * itemsize + spins * (8 + 2 * itemsize)) << spins
    if need > memory.MEMORY_LIMIT:
        raise MemoryError(
            f"A band of width {width} needs about {need / 2**30:.3g} GiB, and the limit is "
            f"{memory.MEMORY_LIMIT / 2**30:.3g} GiB: use a smaller width, `batch.dense()` for few "
            f"spins, or a sampling backend, or raise qattn.exact.memory.MEMORY_LIMIT."
        )


def _tiles(
    h: Float[Tensor, "g n q"], values: Float[Tensor, "g n w"], lengths: Int[Tensor, "#g q"]
) -> Iterator[tuple[slice, slice | Tensor, Windows]]:
    """Groups, queries and windows, each of a size that stays in the cache."""
    G, _, Q = h.shape
    longest = lengths.amax(0)
    order = None if bool((longest.diff() >= 0).all()) else longest.argsort()
    room = max(1, TILE_ELEMENTS >> max(values.shape[2], SPINS_A_STEP))
    groups = max(1, room // min(Q, 64))
    queries = max(16, room // min(G, groups))
    for g in range(0, G, groups):
        for q in range(0, Q, queries):
            rows, part = slice(g, g + groups), slice(q, q + queries)
            columns = part if order is None else order[part]
            own = lengths[rows] if len(lengths) > 1 else lengths
            if int(longest[columns].max()):
                yield rows, columns, Windows(h[rows][..., columns], values[rows], own[:, columns])


def _independent(h: Float[Tensor, "g n q"], lengths: Int[Tensor, "#g q"]) -> Solution:
    """Spins without couplings."""
    there = present(h.shape[1], lengths, h.device)
    h = h.masked_fill(h.isinf(), torch.nan)
    log_Z = (h.abs() + F.softplus(-2 * h.abs())).masked_fill(~there, 0.0).sum(1)
    wrong = log_Z.isnan().unsqueeze(1)
    up = torch.sigmoid(2 * h).masked_fill(wrong, torch.nan).masked_fill(~there, 0.0)
    return Solution(up, log_Z, torch.ones_like(log_Z[0, 0], dtype=torch.bool), ())


def _finite(
    h: Float[Tensor, "g n q"], values: Float[Tensor, "g n w"], lengths: Int[Tensor, "#g q"]
) -> Bool[Tensor, "g q"]:
    """Whether all fields and couplings of a query are."""
    fields = (h.isfinite() | ~present(h.shape[1], lengths, h.device)).all(1)
    no_pair = torch.arange(h.shape[1], device=h.device)[:, None] < torch.arange(
        1, values.shape[2] + 1, device=h.device
    )
    wrong = (~(values.isfinite() | no_pair)).any(2).cumsum(1)
    return fields & (F.pad(wrong, (1, 0)).gather(1, lengths.to(h.device).expand(fields.shape)) == 0)
