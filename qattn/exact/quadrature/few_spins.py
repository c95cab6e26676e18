"""Queries of few spins whose sum over nodes cancels, by enumeration."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qattn.couplings import Couplings
from qattn.exact import dense
from qattn.ising.batch import IsingBatch

MOST = 16
"""Spins of a query that is enumerated."""


def solve(
    h: Float[Tensor, "g n q"],
    couplings: Couplings,
    lengths: Int[Tensor, "#g q"],
    chosen: Bool[Tensor, "g q"],
    up: Float[Tensor, "g n q"],
    log_Z: Float[Tensor, "g q"],
) -> None:
    """Put occupations and log Z of the chosen queries in their places."""
    for g, q, batch in _models(h, couplings, lengths, chosen):
        up[g, : batch.num_spins, q] = dense.moments(batch)[0].mT
        log_Z[g, q] = dense.moments(batch, wants_log_Z=True)[0]


def gradients(
    grad_up: Float[Tensor, "g n q"] | None,
    grad_log_Z: Float[Tensor, "g q"] | None,
    h: Float[Tensor, "g n q"],
    couplings: Couplings,
    lengths: Int[Tensor, "#g q"],
    chosen: Bool[Tensor, "g q"],
) -> tuple[Float[Tensor, "g n q"], Tensor]:
    """Gradients in h and in the couplings' values, from the chosen queries."""
    with torch.enable_grad():
        x, values = h.detach().requires_grad_(), couplings.values.detach().requires_grad_()
        loss = x.new_zeros(())
        for g, q, batch in _models(x, couplings.with_values(values), lengths, chosen):
            if grad_up is not None:
                loss = loss + (dense.moments(batch)[0].mT * grad_up[g, : batch.num_spins, q]).sum()
            elif grad_log_Z is not None:
                found = dense.moments(batch, wants_log_Z=True)[0]
                loss = loss + (found * grad_log_Z[g, q]).sum()
        grad_h, grad_values = torch.autograd.grad(loss, (x, values))
    return grad_h, grad_values


def _models(
    h: Float[Tensor, "g n q"],
    couplings: Couplings,
    lengths: Int[Tensor, "#g q"],
    chosen: Bool[Tensor, "g q"],
) -> Iterator[tuple[int, Int[Tensor, " chosen"], IsingBatch]]:
    """The chosen queries of each group that has some."""
    for g in chosen.any(1).nonzero().flatten().tolist():
        q = chosen[g].nonzero().flatten()
        own = lengths[g if len(lengths) > 1 else 0, q.cpu()]
        n = int(own.max())
        J = couplings[g : g + 1].leading(n).dense()
        yield g, q, IsingBatch(h[g : g + 1, :n, q].mT, J, own, validate=False)
