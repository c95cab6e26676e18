"""The problems of a batch by number of spins, programmed for an anneal, and their targets."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from qattn.field_encoding import FieldEncoding
from qattn.ising.batch import IsingBatch
from qattn.simulators.statevector.evolution import energies


@dataclass(frozen=True, eq=False)
class EqualSizedProblems:
    """The problems of a batch that have one number of spins, n; m of them are programmed.

    Attributes:
        index: Number g * num_queries + q of each problem in its batch.
        n: Number of spins of the targets.
        h: Programmed fields in D-Wave's sign.
        J: Programmed couplings in D-Wave's sign.
        target_h: βh of the targets, the exponent's sign.
        target_J: βJ of the targets, the exponent's sign.
    """

    index: Int[Tensor, " problems"]
    n: int
    h: Float[Tensor, "problems m"]
    J: Float[Tensor, "problems m m"]
    target_h: Float[Tensor, "problems n"]
    target_J: Float[Tensor, "problems n n"]

    def divergence(
        self, probabilities: Float[Tensor, "chunk states"], first: int = 0
    ) -> Float[Tensor, " chunk"]:
        """Kullback-Leibler divergence of distributions from the targets, in nats.

        Args:
            probabilities: Distributions of the targets' spins.
            first: The problem that the first of them belongs to; the others follow it.
        """
        p = probabilities.double()
        chunk = slice(first, first + len(p))
        # The weight of a target is its exponent: "energies" takes it in whatever sign it is given.
        log_weights = energies(self.target_h[chunk].double(), self.target_J[chunk].double())
        divergence = kl_divergence(p, log_weights.mT.log_softmax(1))
        return divergence.to(probabilities.dtype)


def kl_divergence(
    p: Float[Tensor, "*problems states"], log_q: Float[Tensor, "*problems states"]
) -> Float[Tensor, "*problems"]:
    r"""Σ_s p(s) (log p(s) - log q(s)) in nats; states of p(s) = 0 add nothing."""
    divergence: Tensor = (torch.special.xlogy(p, p) - p * log_q).sum(-1)
    return divergence


@torch.no_grad()
def problems_by_size(
    batch: IsingBatch, betas: tuple[float, float], encoding: FieldEncoding
) -> Iterator[EqualSizedProblems]:
    r"""The problems of a batch, smallest first; those without spins are left out.

    They are programmed so that, to first order, the anneal samples at the batch's β
    (:meth:`qattn.field_encoding.FieldEncoding.encode_batch`).

    Args:
        batch: The models.
        betas: (β_h, β_J) of the anneal, as the encoded fields and the couplings see them.
        encoding: How fields are programmed.
    """
    programmed = encoding.encode_batch(batch, betas)
    target_h, target_J = (x.detach() for x in batch.scaled())
    target_h = target_h.flatten(0, 1)
    sizes = batch.num_active.ravel()
    for size in np.unique(sizes[sizes > 0]).tolist():
        index = np.flatnonzero(sizes == size)
        # Problems of a group share its couplings: the targets' groups are heads, the programmed
        # ones problems if each has its own fields among its couplings.
        chosen, target_group, group = (
            torch.from_numpy(rows).to(target_h.device)
            for rows in (index, batch.group_of_problem[index], programmed.group[index])
        )
        m = size + encoding.carrier
        yield EqualSizedProblems(
            index=chosen,
            n=size,
            h=programmed.h[chosen, :m],
            J=programmed.J[group, :m, :m],
            target_h=target_h[chosen, :size],
            target_J=target_J[target_group, :size, :size],
        )
