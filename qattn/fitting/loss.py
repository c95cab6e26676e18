r"""The loss of a step: reverse Kullback-Leibler divergence by the score function.

With R(s) = ln q(s) + βE(s), the variational free energy is βF_q = ⟨R⟩_q ≥ -ln Z, and

.. math::
    \nabla \langle R \rangle_q = \big\langle (R - b)\, \nabla \ln q \big\rangle_q
    \qquad \text{for any } b \text{ that does not depend on } s.

b is the mean over the other reads, which keeps the gradient unbiased. R is the *whole* return: at
the optimum it is the same number, -ln Z, for every state, so that the gradient has no noise left.
A reward-to-go, the part of R that comes after a spin, would be unbiased too, but varies with the
spins before it even there.

Of a large model the logits of a random subset S of positions suffice: ln q is a sum over positions,
and n/|S| of what is found is unbiased, as R comes from the draw itself.
"""

from jaxtyping import Float, Int
from torch import Tensor

from qattn.simulators.autoregressive import AutoregressiveNet, Models


def returns(
    log_q: Float[Tensor, "g columns"], energies: Float[Tensor, "g columns"], num_queries: int
) -> Float[Tensor, "g q reads"]:
    """R = ln q + βE of the reads of each query."""
    R: Tensor = (log_q.detach() + energies).unflatten(1, (num_queries, -1))
    return R


def advantages(R: Float[Tensor, "g q reads"]) -> Float[Tensor, "g q reads"]:
    """R less its mean over the other reads of the query."""
    reads = R.shape[-1]
    return (R - R.mean(-1, keepdim=True)) * (reads / (reads - 1))


def reverse_kl(
    net: AutoregressiveNet,
    models: Models,
    spins: Float[Tensor, "g n columns"],
    R: Float[Tensor, "g q reads"],
    positions: Int[Tensor, " chosen"] | None = None,
    share: float = 1.0,
) -> Float[Tensor, ""]:
    """A number whose gradient is that of ⟨R⟩_q, averaged over queries and groups.

    Args:
        net: The net that drew the reads.
        models: The models, arranged.
        spins: The reads, in the order of drawing.
        R: Their :func:`returns`.
        positions: Positions that are differentiated; None means all.
        share: How many of all positions they are.
    """
    log_q = net.log_q(models, spins, positions).unflatten(1, R.shape[1:])
    loss: Tensor = (advantages(R) * log_q).mean() / share
    return loss


def forward_kl(
    net: AutoregressiveNet,
    models: Models,
    spins: Float[Tensor, "g n columns"],
    positions: Int[Tensor, " chosen"] | None = None,
    share: float = 1.0,
) -> Float[Tensor, ""]:
    """-⟨ln q⟩ over reads of another distribution: its gradient is that of their divergence from q.

    Args:
        net: The net.
        models: The models, arranged.
        spins: The reads, in the order of drawing.
        positions: Positions that are differentiated; None means all.
        share: How many of all positions they are.
    """
    return -net.log_q(models, spins, positions).mean() / share
