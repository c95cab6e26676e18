r"""How far a mean-field solution is from exact: one Newton step towards better equations.

The better equations hold pairs of spins exactly and loops of three and more as of Gaussian spins,

.. math:: h_i = \mathrm{atanh}\, m_i - \sum_j u_{ij} + m_i (V_i - V_i^{\text{pairs}})
          - \sum_j \frac{\partial K_{ij}}{\partial m_i} (\chi_{ij} - c_{ij}),

u of the Bethe approximation, V and χ of adaptive TAP with couplings K, and V^pairs, c what that has
for single pairs. With K = J the first order past the pairs is right; with K_ij = τ/(2s), the
couplings of Gaussian pairs that have the exact covariances (:mod:`qattn.mean_field.pairs`), the
second is too (in Plefka's expansion, orders three and four in β). A step of θ = atanh m from a
method's solution, by the response of the Bethe approximation, then says how far it is off: at weak
coupling to a few per cent, for every method. Where the two orders differ widely, no order can be
trusted.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from qattn.mean_field.means import Means
from qattn.mean_field.methods import EQUATIONS, cavity_reaction
from qattn.mean_field.pairs import Pairs

LOOP_STEPS = 5
"""Steps of V; at weak coupling two would do."""

SMALL = 0.03
"""Estimates up to this rms of ⟨s⟩ are taken as they are."""

CAP, DISAGREE = 1.6, 2.0
"""Ratios of the second order to the first: the largest that counts, and that of no trust."""


class Estimate(NamedTuple):
    """An estimate for each query.

    Attributes:
        error: Root mean square of the estimated errors of ⟨s⟩ over the query's spins.
        trusted: Whether the two orders agree.
    """

    error: Float[Tensor, "groups queries"]
    trusted: Bool[Tensor, "groups queries"]


def estimate(
    h: Float[Tensor, "groups queries n"], J: Float[Tensor, "groups n n"], means: Means
) -> Estimate:
    """The errors of these means, at β = 1."""
    pairs = Pairs.of(means, J)
    response = EQUATIONS["bethe"].response(means.theta, J, means)
    fields = h + pairs.fields() - means.theta
    plain = J.unsqueeze(1).expand_as(response)
    first = _distance(fields + _loops(means, plain), response, means)
    exact = pairs.precision()
    slope = pairs.precision_slope()
    second = _distance(fields + _loops(means, exact, slope), response, means)
    # A second order that is far above a first one overshoots: it is capped, unless both are small.
    error = torch.where(second > SMALL, torch.minimum(second, CAP * first), second)
    known = first.isfinite() & second.isfinite()
    trusted = known & ((second <= DISAGREE * first) | (second <= SMALL))
    # ⟨s⟩ may be anything.
    return Estimate(torch.where(known, error, 1.0), trusted)


def _loops(
    means: Means, K: Float[Tensor, "g q n n"], slope: Float[Tensor, "g q n n"] | None = None
) -> Float[Tensor, "g q n"]:
    """The field of the loops: -m (V - V^pairs), and what the change of K with m adds."""
    root, v = means.root, means.v
    coupled = root.unsqueeze(-1) * K * root.unsqueeze(-2)
    # Of single Gaussian pairs: covariances (of spins of variance 1) and reactions.
    pair = 2 * coupled / (1 + (1 + 4 * coupled * coupled).sqrt())
    of_pairs = K * K * v.unsqueeze(-2) * 2 / (1 + (1 + 4 * coupled * coupled).sqrt())
    V_pairs = (of_pairs * means.present.unsqueeze(-2)).sum(-1)
    V = V_pairs
    for _ in range(LOOP_STEPS):
        V, C = cavity_reaction(1 + v * V, root, coupled, K)
    field = -means.m * (V - V_pairs)
    if slope is not None:
        excess = root.unsqueeze(-1) * (C - pair) * root.unsqueeze(-2)
        excess.diagonal(dim1=-2, dim2=-1).zero_()
        field = field + (excess * slope).sum(-1)
    return field


def _distance(
    residual: Float[Tensor, "g q n"], response: Float[Tensor, "g q n n"], means: Means
) -> Float[Tensor, "g q"]:
    """Rms change of ⟨s⟩ by a step that takes away this residual of the fields."""
    change = torch.linalg.solve_ex(response, (means.root * residual).unsqueeze(-1))[0].squeeze(-1)
    step = change / means.root.clamp_min(torch.finfo(change.dtype).tiny)
    return means.distance((means.theta + step.clamp(-2, 2)).tanh() * means.present)
