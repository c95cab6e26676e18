r"""Programming Boltzmann models onto an anneal: units, signs, sizes and the ghost spin."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from qattn.ising import IsingBatch, to_dimod_signs
from qattn.simulators.statevector import energies

FIELD_ENCODINGS = ("direct", "ghost")
"""How fields are programmed: as fields, or as couplings to one more spin."""


@dataclass(frozen=True, eq=False)
class Programmed:
    """The problems of a batch that have one number of spins.

    Attributes:
        index: Number g * num_queries + q of each problem in its batch.
        n: Number of spins of the original problems.
        ghost: Whether spin 0 of the programmed problems carries the fields.
        h: Programmed fields in D-Wave's sign.
        J: Programmed couplings in D-Wave's sign.
        target_h: βh of the original problems, qattn's sign.
        target_J: βJ of the original problems, qattn's sign.
    """

    index: Int[Tensor, " problems"]
    n: int
    ghost: bool
    h: Float[Tensor, "problems m"]
    J: Float[Tensor, "problems m m"]
    target_h: Float[Tensor, "problems n"]
    target_J: Float[Tensor, "problems n n"]

    def divergence(
        self, probabilities: Float[Tensor, "some states"], block: slice = slice(None)
    ) -> Float[Tensor, " some"]:
        """Kullback-Leibler divergence of the first of these distributions from their targets."""
        p = probabilities.double()
        here = slice(block.start or 0, (block.start or 0) + len(p))
        log_target = energies(self.target_h[here].double(), self.target_J[here].double())
        found: Tensor = kl_divergence(p, log_target.mT.log_softmax(1)).to(probabilities.dtype)
        return found


def kl_divergence(
    p: Float[Tensor, "*problems states"], log_q: Float[Tensor, "*problems states"]
) -> Float[Tensor, "*problems"]:
    r"""Σ_s p(s) (log p(s) - log q(s)) in nats; states of p(s) = 0 add nothing."""
    found: Tensor = (torch.special.xlogy(p, p) - p * log_q).sum(-1)
    return found


@torch.no_grad()
def program(
    batch: IsingBatch, beta_h: float, beta_J: float, field_encoding: str
) -> Iterator[Programmed]:
    r"""The problems of a batch by number of spins, such that the anneal's first order is their β.

    Both encodings program -βh/β_h and -βJ/β_J, "ghost" the former as couplings to spin 0 (whose
    β_h is therefore that of couplings). The minus is D-Wave's convention
    (:func:`qattn.ising.to_dimod_signs`). Sizes of 0 are left out.

    Args:
        batch: The models.
        beta_h: Effective inverse temperature of fields, as they are encoded.
        beta_J: Effective inverse temperature of couplings.
        field_encoding: One of :data:`FIELD_ENCODINGS`.
    """
    G, Q, n = batch.h.shape
    target_h, target_J = (x.detach() for x in batch.scaled())
    ghost = field_encoding == "ghost"
    used = IsingBatch(target_h / beta_h, target_J / beta_J, batch.lengths, validate=False)
    used = used.with_ghost_spin() if ghost else used
    h, J = to_dimod_signs(used.h, used.J)
    sizes = batch.num_active.ravel()
    group = np.arange(G * Q) // Q
    h = h.reshape(G * Q, -1)
    for size in np.unique(sizes[sizes > 0]).tolist():
        chosen = torch.from_numpy(np.flatnonzero(sizes == size)).to(h.device)
        groups = torch.from_numpy(group[sizes == size]).to(h.device)
        m = size + ghost
        yield Programmed(
            index=chosen,
            n=size,
            ghost=ghost,
            h=h[chosen, :m],
            J=J[chosen if ghost else groups, :m, :m],
            target_h=target_h.reshape(G * Q, n)[chosen, :size],
            target_J=target_J[groups, :size, :size],
        )


def without_ghost_states(
    probabilities: Float[Tensor, "problems double"],
) -> Float[Tensor, "problems states"]:
    """Distribution of s_0 s_j from that of (s_0, s_j): s_0 is the lowest bit."""
    down, up = probabilities.unflatten(1, (-1, 2)).unbind(2)
    folded: Tensor = up + down.flip(1)
    return folded
