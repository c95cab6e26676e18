r"""Exact moments of a block of queries as matrix products over two halves of the spins.

Split the spins into halves A and B with states a and b. The Boltzmann weight of a query factors,

.. math::
    e^{h \cdot s + \sum_{j<k} J_{jk} s_j s_k} = u_a K_{ab} v_b, \qquad
    u_a = e^{h_A \cdot a}, \quad v_b = e^{h_B \cdot b}, \quad K_{ab} = e^{E_J(a, b)},

and K is shared by all queries of a group. Hence Z = uᵀKv, p(a) = u_a (Kv)_a / Z and
p(b) = v_b (Kᵀu)_b / Z: no exponential is taken inside the 2^n loop, and all queries together are
matrix products. With f(s) = g·(s - ⟨s⟩) + c, every derivative that the backward pass needs is
Σ_s p(s) f(s) s and Σ_s p(s) f(s) s sᵀ, and f splits into f_A(a) + f_B(b): products of the same
shape.

E_J is bilinear in features of the halves, E_J = F_A M F_Bᵀ: F holds the spins of a half, their
pairs and 1, and each J_jk stands at one place of M.

An absent spin is fixed to -1, and the present spins get the field Σ J_jk over the absent ones to
undo that; it is then invisible to the others.

Scaling: u, v and K are each divided by their maximum, and the penalties of single spins are summed
without cancellation, so nothing overflows and what underflows is below 3·2^n·tiny in total. Z,
relative to that, tells whether an answer holds to rounding; where it does not, 1/Z is set to 0.

Tensors have the query axis last, and the halves stacked in front of the states: sums over states
are then products with tall, not with thin, matrices, and the halves share each operation.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.exact.layout import Masks, Tables, part_sizes


class Factors(NamedTuple):
    """What the forward pass leaves for the backward pass."""

    uv: Float[Tensor, "groups two states queries"]
    Kuv: Float[Tensor, "groups two states queries"]
    inverse_Z: Float[Tensor, "groups queries"]
    K: Float[Tensor, "groups states states"]


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
    low, high = parts.split(part_sizes(tab.S.shape[1]), 2)
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
) -> tuple[Float[Tensor, "g n q"], Float[Tensor, "g q"] | None, Factors]:
    """⟨s⟩ (0 at absent spins) and log Z, if requested, in the dtype of h; and the factors.

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
    # Marginal weights of the states of A and of B; either sums to Z.
    p = uv * Kuv
    Z = p[:, 0].sum(1)
    # 1/Z = 0 where what underflowed, at most 3·2^n·tiny, is not below the rounding of Z.
    limits = torch.finfo(Z.dtype)
    enough = 3 * 2.0**n * limits.tiny / limits.eps
    inverse_Z = Z.masked_fill(~(enough <= Z), torch.inf).reciprocal_()  # NaN is not enough
    # ⟨s_j⟩ of a half from the marginal of that half.
    mean = (tab.S.mT @ p).flatten(1, 2).mul_(inverse_Z.unsqueeze(1))
    if mask is not None:
        mean.mul_(mask.present)
    log_Z = None
    if wants_log_Z:
        # Put back the maxima of u and v, e^{Σ|h_j|} of the fields, and that of K.
        log_Z = Z.log() + fields.sum((1, 2)) + K_max.unsqueeze(-1)
        if mask is not None:
            # Pairs of absent spins, both at -1, are in K: take them out.
            log_Z -= (absent_J * mask.absent).sum(1) / 2
    return mean, log_Z, Factors(uv, Kuv, inverse_Z, K)


def backward(
    grad_log_Z: Float[Tensor, "g q"] | None,
    grad_mean: Float[Tensor, "g n q"],
    mean: Float[Tensor, "g n q"],
    factors: Factors,
    tab: Tables,
    mask: Masks | None,
) -> tuple[Float[Tensor, "g n q"], Float[Tensor, "g n n"]]:
    """Gradients in h and J from those in log Z and ⟨s⟩; nothing from queries with 1/Z = 0.

    Half of the derivative in the coupling of a pair goes to each of its two entries in J.
    """
    # f(s) = g·(s - ⟨s⟩) + c over Z, split into f_A(a), which takes the constant, and f_B(b).
    uv, Kuv, inverse_Z, K = factors
    scale = inverse_Z.unsqueeze(1)
    g = grad_mean * scale
    if mask is not None:
        g.mul_(mask.present)
    constant = (g * mean).sum(1, keepdim=True).neg_()
    if grad_log_Z is not None:
        constant.addcmul_(grad_log_Z.unsqueeze(1), scale)
    # u f_A and v f_B.
    uv_f = tab.S @ g.unflatten(1, (2, -1))
    (u, v), (u_f, v_f) = uv.unbind(1), uv_f.unbind(1)
    u_f += constant
    uv_f.mul_(uv)

    # Σ_b p(a, b) f and Σ_a p(a, b) f: marginals of f p on A and on B, whence Σ p f s_j.
    p_f = times_K(K, uv_f).mul_(uv).addcmul_(uv_f, Kuv)
    grad_h = (tab.S.mT @ p_f).flatten(1, 2)
    # Σ over queries of p(a, b) f(a, b), the gradient in E_J(a, b), then in M, then in each J_jk.
    pairs = torch.bmm(u_f, v.mT).baddbmm_(u, v_f.mT).mul_(K)
    entries = (tab.features.mT @ (pairs @ tab.features)).flatten(1)
    grad_J = entries.index_select(1, tab.entry_of_pair).view(-1, *tab.off_diagonal.shape)
    if mask is not None:
        # K has the absent spins at -1: subtract their pairs with all others.
        grad_h.mul_(mask.present)
        cross = grad_h
        if grad_log_Z is not None:
            cross = cross - mask.absent * (scale > 0) * grad_log_Z.unsqueeze(1) / 2
        cross = cross @ mask.absent.mT
        grad_J = grad_J + (cross + cross.mT)
    return grad_h, grad_J * tab.off_diagonal / 2
