r"""Exact moments of a block of queries as matrix products over two halves of the spins.

Split the spins into halves A and B with states a and b. The Boltzmann weight of a query factors,

.. math::
    e^{h \cdot s + \sum_{j<k} J_{jk} s_j s_k} = u_a K_{ab} v_b, \qquad
    u_a = e^{h_A \cdot a}, \quad v_b = e^{h_B \cdot b}, \quad K_{ab} = e^{E_J(a, b)},

and K is shared by all queries of a group. Hence Z = uᵀKv, p(a) = u_a (Kv)_a / Z and
p(b) = v_b (Kᵀu)_b / Z: no exponential is taken inside the 2^n loop, and all queries together are
matrix products.

Everything is computed in occupations n_j = (1 + s_j)/2, because ⟨n_j⟩ = p(s_j = +1) is a sum of
positive terms: its relative error is that of rounding, however small it is, where (1 + ⟨s_j⟩)/2
would keep nothing of an occupation below the rounding of 1. With f(s) = Σ_j g_j (n_j - ⟨n_j⟩) + c,
every derivative that the backward pass needs is Σ_s p(s) f(s) n_j and Σ_s p(s) f(s) n_j n_k, and f
splits into f_A(a) + f_B(b): products of the same shape. A term of f is g_j p(s_j = -1) where spin j
is up and -g_j p(s_j = +1) where it is down, both of which are known without subtraction.

E_J is bilinear in features of the halves, E_J = F_A M F_Bᵀ: F holds the spins of a half, their
pairs and 1, and each J_jk stands at one place of M.

An absent spin is fixed to -1, and the present spins get the field Σ J_jk over the absent ones to
undo that; it is then invisible to the others.

Scaling: u, v and K are each divided by their maximum, and the penalties of single spins are summed
without cancellation, so nothing overflows and what underflows is below 3·2^n·tiny in total. Z,
relative to that, tells whether an answer holds to rounding; where it does not, `scale` is set to 0.
The least Σ_{s: s_j = +1} of a block tells whether every occupation does.

Tensors have the query axis last, and the halves stacked in front of the states: sums over states
are then products with tall, not with thin, matrices, and the halves share each operation.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from qattn.exact.dense.layout import Masks, Tables, part_sizes


class Factors(NamedTuple):
    """What the forward pass leaves for the backward pass.

    Attributes:
        uv: u and v.
        Kuv: Kv and Kᵀu.
        scale: 1/Z, or 1/(Z Σ_j ⟨n_j⟩) of occupations that are normalised; 0 if too small to tell.
        K: exp(E_J) of all pairs of states.
        up: p(s_j = +1), the occupations.
        down: p(s_j = -1).
    """

    uv: Float[Tensor, "groups two states queries"]
    Kuv: Float[Tensor, "groups two states queries"]
    scale: Float[Tensor, "groups queries"]
    K: Float[Tensor, "groups states states"]
    up: Float[Tensor, "groups n queries"]
    down: Float[Tensor, "groups n queries"]


class Result(NamedTuple):
    """Occupations of a block, 0 at absent spins; log Z if requested; whether all hold."""

    occupations: Float[Tensor, "groups n queries"]
    log_Z: Float[Tensor, "groups queries"] | None
    accurate: Bool[Tensor, ""]
    factors: Factors


def couplings_to_K(
    J: Float[Tensor, "g n n"], tab: Tables
) -> tuple[Float[Tensor, "g a b"], Float[Tensor, " g"]]:
    """K divided by its maximum, and the logarithm of the maximum. Uses one triangle of J."""
    # M holds each J_jk once and 0 elsewhere.
    entries = J.flatten(1).index_select(1, tab.pair_of_entry).mul_(tab.entry_is_pair)
    M = entries.unflatten(1, (tab.features.shape[1],) * 2)
    # E_J(a, b) of all states, then its exponential relative to the largest.
    K = tab.features @ (M @ tab.features.mT)
    K_max = K.amax((1, 2))
    K = K.sub_(K_max[:, None, None]).exp_()
    return K, K_max


def fields_to_uv(
    fields: Float[Tensor, "g two two_half q"], tab: Tables, mask: Masks | None
) -> Float[Tensor, "g two s q"]:
    """u and v, each with maximum 1, from [relu(h), relu(-h)]; 0 where an absent spin is +1."""
    # exp(-2|h_j|) for each spin against its field: products over the low and the high part of a
    # half, and of these the outer product, 2^(n/4) exponentials instead of 2^(n/2).
    parts = (tab.penalties @ fields).exp_()
    if mask is not None:
        parts.mul_(mask.possible)
    low, high = parts.split(part_sizes(tab.occupied.shape[1] // 2), 2)
    uv: Tensor = high.unsqueeze(3) * low.unsqueeze(2)
    return uv.flatten(2, 3)


def times_K(K: Float[Tensor, "g a b"], x: Float[Tensor, "g two s q"]) -> Tensor:
    """[K x_B, Kᵀ x_A], shape (groups, 2, states, queries)."""
    out = torch.empty_like(x)
    x_a, x_b = x.unbind(1)
    out_a, out_b = out.unbind(1)
    torch.bmm(K, x_b, out=out_a)
    torch.bmm(K.mT, x_a, out=out_b)
    return out


def forward(
    h: Float[Tensor, "g n q"],
    J: Float[Tensor, "g n n"],
    tab: Tables,
    mask: Masks | None,
    wants_log_Z: bool,
    normalize: bool,
) -> Result:
    """Occupations ⟨n_j⟩, divided by their sum if `normalize`; log Z, if requested; the factors.

    h and J are in the exponent's sign, β included.
    """
    n = h.shape[1]
    # One table of couplings for all queries; absent spins count as -1 in it, which the field
    # Σ J_jk over the absent k undoes.
    K, K_max = couplings_to_K(J, tab)
    if mask is not None:
        absent_J = J @ mask.absent
        h = (h + absent_J).mul_(mask.present)
    # Halves side by side: [u, v] and [Kv, Kᵀu], shape (groups, 2, states, queries).
    h = h.unflatten(1, (2, n // 2))
    fields = torch.cat([h, -h], 2).relu_()
    uv = fields_to_uv(fields, tab, mask)
    Kuv = times_K(K, uv)
    # Marginal weights of the states of A and of B; either sums to Z. Sums over the states where a
    # spin is up, and where it is down, have no other rounding than that of positive terms.
    p = uv * Kuv
    Z = p[:, 0].sum(1)
    up, down = (x.flatten(1, 2) for x in (tab.occupied.mT @ p).chunk(2, 2))
    total = up.sum(1) if normalize else Z
    # What underflowed, at most 3·2^n·tiny, must be below the rounding of what is computed.
    limits = torch.finfo(Z.dtype)
    enough = 3 * 2.0**n * limits.tiny / limits.eps
    least = up if mask is None else up + mask.absent
    if normalize and mask is not None:
        # A query without spins has no occupations, and their sum divides nothing.
        total = total + mask.absent.amin(1)
    # 1/Z = 0 where it is not (NaN is not enough either).
    scale = total.masked_fill(~(enough <= total), torch.inf).reciprocal_()
    occupations = up * scale.unsqueeze(1)
    if normalize:
        inverse_Z = Z.reciprocal().mul_(scale > 0).unsqueeze(1)
        up = up * inverse_Z
    else:
        inverse_Z, up = scale.unsqueeze(1), occupations
    log_Z = None
    if wants_log_Z:
        # Put back the maxima of u and v, e^{Σ|h_j|} of the fields, and that of K.
        log_Z = Z.log() + fields.sum((1, 2)) + K_max.unsqueeze(-1)
        if mask is not None:
            # Pairs of absent spins, both at -1, are in K: take them out.
            log_Z -= (absent_J * mask.absent).sum(1) / 2
    factors = Factors(uv, Kuv, scale, K, up, down * inverse_Z)
    return Result(occupations, log_Z, (least >= enough).all(), factors)


def backward(
    grad_log_Z: Float[Tensor, "g q"] | None,
    grad: Float[Tensor, "g n q"],
    factors: Factors,
    tab: Tables,
    mask: Masks | None,
) -> tuple[Float[Tensor, "g n q"], Float[Tensor, "g n n"]]:
    """Gradients in h and J from those in log Z and ⟨n⟩; nothing from queries with `scale` 0.

    Half of the derivative in the coupling of a pair goes to each of its two entries in J.
    """
    # f(s) over Z, split into f_A(a), which takes the constant, and f_B(b); then u f_A and v f_B.
    uv, Kuv, scale, K, up, down = factors
    g = (grad * scale.unsqueeze(1)).unflatten(1, (2, -1))
    down_up = (x.unflatten(1, (2, -1)) for x in (down, -up))
    uv_f = tab.occupied @ torch.cat([g * x for x in down_up], 2)
    (u, v), (u_f, v_f) = uv.unbind(1), uv_f.unbind(1)
    if grad_log_Z is not None:
        u_f += (grad_log_Z * scale).unsqueeze(1)
    uv_f.mul_(uv)

    # Σ_b p(a, b) f and Σ_a p(a, b) f: marginals of f p on A and on B, whence Σ p f n_j, summed over
    # the less likely of s_j = +1 and s_j = -1, whose terms are the smaller.
    p_f = times_K(K, uv_f).mul_(uv).addcmul_(uv_f, Kuv)
    up_f, down_f = (x.flatten(1, 2) for x in (tab.occupied.mT @ p_f).chunk(2, 2))
    present = None if mask is None else mask.present
    c = None
    if grad_log_Z is not None:
        # Σ p f = c; 0 without a gradient in log Z.
        c = (grad_log_Z * (scale > 0)).unsqueeze(1)
        c = c.expand_as(up) if present is None else c * present
        down_f = down_f - c
    first = 2 * torch.where(up < down, up_f, -down_f)

    # Σ over queries of p(a, b) f(a, b), then of p f n_j n_k; and with s s = 4nn - 2n - 2n + 1 the
    # gradient in each J_jk. An absent spin has n = 0, and no part in the other terms.
    pairs = torch.bmm(u_f, v.mT).baddbmm_(u, v_f.mT).mul_(K)
    entries = (tab.pairs_occupied.mT @ (pairs @ tab.pairs_occupied)).flatten(1)
    grad_J = entries.index_select(1, tab.entry_of_pair).view(-1, *tab.off_diagonal.shape)
    once = first if c is None else first - c / 2
    if present is None:
        cross = once.sum(2, keepdim=True)
    else:
        cross = once @ present.expand_as(once).mT
    grad_J = 4 * grad_J - (cross + cross.mT)
    grad_h = first if c is None else first - c
    return grad_h, grad_J * (tab.off_diagonal / 2)
