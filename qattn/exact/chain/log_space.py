"""A band in log space, for couplings and fields so strong that products of them underflow.

Slow and without limits: the window advances by one spin, and what :mod:`.scan` derives by hand is
left to autograd. A lane is a single query with the couplings of its group.
"""

from collections.abc import Iterator
from math import log

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

CHUNK_ELEMENTS = 1 << 22
"""Numbers of the messages of the lanes that are solved at a time."""


def filtered(
    up: Float[Tensor, "lanes n"],
    down: Float[Tensor, "lanes n"],
    values: Float[Tensor, "lanes n w"],
    log_A: Float[Tensor, "lanes states"] | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Of the window that ends with each spin, logarithms of weights, from those before the first.

    Yields:
        Those of the states and the spin that has left, (lanes, left, kept, new), without the
        field of the new spin; and those of the states, (lanes, states). In a state's number the
        newest spin is the last bit. Spins before the first are free and without couplings; the
        start undoes what they add.
    """
    lanes, n, w = values.shape
    place = torch.arange(w + 1, device=up.device).flip(0)
    states = (torch.arange(2 << w, device=up.device)[:, None] >> place) & 1
    s = (2 * states - 1).to(values)  # of the window, oldest first, and the new spin
    pairs = (s[:, -1:] * s[:, :-1].flip(1)).mT
    if log_A is None:
        log_A = up.new_full((lanes, 1 << w), -w * log(2))
    for t in range(n):
        joint = log_A.unflatten(1, (2, -1, 1)) + (values[:, t] @ pairs).unflatten(1, (2, -1, 2))
        log_A = joint.logsumexp(1) + torch.stack([down[:, t], up[:, t]], 1).unsqueeze(1)
        log_A = log_A.flatten(1)
        yield joint, log_A


def moments(
    h: Float[Tensor, "lanes n"], values: Float[Tensor, "lanes n w"], lengths: Int[Tensor, " lanes"]
) -> tuple[Float[Tensor, "lanes n"], Float[Tensor, " lanes"]]:
    """Occupations, as derivatives of log Z in the log-weight of s_j = +1, and log Z."""
    with torch.enable_grad():
        up = h if h.requires_grad else h.clone().requires_grad_()
        up = up * 1.0
        log_Z = h.new_zeros(len(h))
        for t, (_, log_A) in enumerate(filtered(up, -h, values)):
            log_Z = torch.where(lengths == t + 1, log_A.logsumexp(1), log_Z)
        (occupations,) = torch.autograd.grad(log_Z.sum(), up, create_graph=h.requires_grad)
    return occupations, log_Z


class Lanes:
    """The chosen queries, in chunks."""

    def __init__(
        self,
        chosen: Bool[Tensor, "g q"],
        h: Float[Tensor, "g n q"],
        values: Float[Tensor, "g n w"],
        lengths: Int[Tensor, "#g q"],
    ) -> None:
        self.where = chosen.nonzero()
        self.h, self.values = h, values
        self.lengths = lengths.to(h.device).expand(chosen.shape)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]:
        """Groups, queries, h, values and lengths; zero where there is no spin or no pair."""
        _, n, w = self.values.shape
        for part in self.where.split(max(1, CHUNK_ELEMENTS // (n << w))):
            g, q = part.unbind(1)
            lengths, j = self.lengths[g, q], torch.arange(n, device=part.device)
            present = j < lengths[:, None]
            no_pair = j[:, None] < torch.arange(1, w + 1, device=part.device)
            values = self.values[g].masked_fill(~present.unsqueeze(2) | no_pair, 0.0)
            yield g, q, self.h[g, :, q].masked_fill(~present, 0.0), values, lengths
