r"""Means of a pair of spins given the rest of a read, for ``callen``.

Let i and j be free and the other spins as in the read. The four states of the pair are the read's
own and those with i, j or both flipped. With b the local fields, P_i = σ(2 s_i b_i) the
probability that a spin keeps its value given all others, and Q_i = 1 - P_i, their weights are

.. math::
    P_i P_j, \quad Q_i P_j, \quad P_i Q_j, \quad Q_i Q_j V, \qquad V = e^{4 J_{ij} s_i s_j}.

With their sum Z = 1 - Q_i Q_j + Q_i Q_j V the means of s_i, s_j and s_i s_j are

.. math::
    \mu_i = s_i \Big(\frac{2 P_i}{Z} - 1\Big), \quad
    \mu_j = s_j \Big(\frac{2 P_j}{Z} - 1\Big), \quad
    e = s_i s_j \Big(1 - 2 \frac{Q_i P_j + P_i Q_j}{Z}\Big).

Only Q_i Q_j V takes a transcendental function for each pair: it is e^y, y = log Q_i + log Q_j +
4 J_ij s_i s_j, written σ(y)/σ(-y), which does not overflow and which PyTorch computes faster.

P_i and P_j vanish together in reads that the model all but forbids. Where a P_i is beyond the
floating-point range the means come from the fields c_i = b_i - J_ij s_j from outside the pair,
with T± = tanh(c_i ± c_j) and p the probability that the two spins are equal, at three σ a pair:

.. math::
    p = \sigma\Big(2 J_{ij} + \log\frac{\cosh(c_i + c_j)}{\cosh(c_i - c_j)}\Big), \quad
    e = 2p - 1, \quad \mu_i = p T_+ + (1-p) T_-, \quad \mu_j = p T_+ - (1-p) T_-.

The ratio is e^{|c_i + c_j| - |c_i - c_j|} (1 + |T_-|) / (1 + |T_+|): p then needs no logarithm, and
nothing overflows however strong the couplings are.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from qattn.estimators.bonds import Spins
from qattn.estimators.reads import Reads


class PairMeans(NamedTuple):
    """Means of s_i, s_j and s_i s_j given the other spins, for one i and many j."""

    first: Float[Tensor, "g m q r"]
    second: Float[Tensor, "g m q r"]
    product: Float[Tensor, "g m q r"]


class Flips(NamedTuple):
    """-s, P, Q, log Q and 2 P s of some spins."""

    flipped: Float[Tensor, "g m q r"]
    keep: Float[Tensor, "g m q r"]
    flip: Float[Tensor, "g m q r"]
    log_flip: Float[Tensor, "g m q r"]
    twice_kept: Float[Tensor, "g m q r"]

    def at(self, spins: Spins) -> "Flips":
        """Some of the spins."""
        return Flips(*(x[:, spins] for x in self))


def pair_means(
    reads: Reads, b: Float[Tensor, "g n q r"]
) -> Callable[[Spins, Spins, Tensor], PairMeans]:
    """What gives the means for spins i and j and their couplings from the local fields b."""
    s = reads.spins
    log_odds = 2 * b * s
    # Odds as small as the smallest normal number still have a σ, and it an inverse.
    if log_odds.amin() < math.log(torch.finfo(b.dtype).tiny) + 1:
        return lambda i, j, J: means_from_fields(b[:, i], b[:, j], s[:, i], s[:, j], J)
    keep, flip = log_odds.sigmoid(), (-log_odds).sigmoid_()
    spins = Flips(-s, keep, flip, logsigmoid(-log_odds), 2 * keep * s)
    return lambda i, j, J: means_from_flips(spins.at(i), spins.at(j), J)


def means_from_flips(i: Flips, j: Flips, J: Float[Tensor, "g m 1 1"]) -> PairMeans:
    """From P and Q, where they are normal numbers."""
    product = i.flipped * j.flipped
    # e^y = σ(y)/(1 - σ(y)).
    both = (i.log_flip + j.log_flip).addcmul_(product, 4 * J).sigmoid_()
    none = 1 - both
    # 1 - Q_i Q_j as a sum of positive terms, P_i + Q_i P_j; then 1/Z.
    rest = torch.addcmul(i.keep, i.flip, j.keep)
    inverse = none.div_(both.addcmul_(none, rest))
    # What flips one of the two is that sum less P_i P_j.
    one = rest.addcmul_(i.keep, j.keep, value=-1).mul_(inverse)
    mu_i, mu_j = (torch.addcmul(x.flipped, inverse, x.twice_kept) for x in (i, j))
    return PairMeans(mu_i, mu_j, product.addcmul_(product, one, value=-2))


def means_from_fields(
    b_i: Float[Tensor, "g 1 q r"],
    b_j: Float[Tensor, "g m q r"],
    s_i: Float[Tensor, "g 1 q r"],
    s_j: Float[Tensor, "g m q r"],
    J: Float[Tensor, "g m 1 1"],
) -> PairMeans:
    """From the fields, whatever they are."""
    # Fields from outside the pair, and T± in place.
    c_i, c_j = b_i - J * s_j, b_j - J * s_i
    plus, minus = c_i + c_j, c_i.sub_(c_j)
    equal, opposite = tanh(plus), tanh(minus)
    # σ(2J + |c_i + c_j| - |c_i - c_j|), then the factors (1 + |T∓|) in its odds.
    p = plus.abs_().sub_(minus.abs_()).add_(2 * J).sigmoid_()
    weight = p * (1 + opposite.abs())
    p = weight / (1 - p).mul_(1 + equal.abs()).add_(weight)
    # Now p T+ and (1 - p) T-.
    equal.mul_(p)
    opposite.addcmul_(opposite, p, value=-1)
    return PairMeans(equal + opposite, equal - opposite, 2 * p - 1)


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent as 2σ(2x) - 1: PyTorch computes σ several times faster."""
    return (2 * x).sigmoid_().mul_(2).sub_(1)
