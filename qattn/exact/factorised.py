r"""Exact moments of all queries of a batch as matrix products over two halves of the spins.

Split the spins into halves A and B with states a and b. The Boltzmann weight of a query factors,

.. math::
    e^{h \cdot s + \frac12 s^T J s} = u_a K_{ab} v_b, \qquad
    u_a = e^{h_A \cdot a}, \quad v_b = e^{h_B \cdot b}, \quad K_{ab} = e^{E_J(a, b)},

and K is shared by all queries of a group. Hence Z = uᵀKv, p(a) = u_a (Kv)_a / Z and
p(b) = v_b (Kᵀu)_b / Z: no exponential is taken inside the 2^n loop, and all queries together are
matrix products. With f̃(s) = g·(s - ⟨s⟩) + c, every derivative that the backward pass needs is
Σ_s p(s) f̃(s) s and Σ_s p(s) f̃(s) s sᵀ, and f̃ splits into f_A(a) + f_B(b): products of the same
shape.

An absent spin is fixed to -1 in K, and the present spins get the field Σ J_jk over the absent
ones to undo that; it is then invisible to the others. With states numbered so that the absent
spins are the high bits at zero, a short query uses the leading columns of the same K.

Scaling: u, v and K are each divided by their maximum, and the penalties of single spins are summed
without cancellation, so nothing overflows and what underflows is below 3·2^n·tiny in total. Z,
relative to that, tells whether an answer holds to rounding: `Factors.certain`.

Tensors have the queries last: sums over states are then products with tall, not with thin,
matrices, which BLAS does several times faster.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from qattn.exact.layout import Layout, part_states, states


class Factors(NamedTuple):
    """What the forward pass leaves for the backward pass; u is divided by Z, K by its maximum."""

    u: Float[Tensor, "groups a queries"]
    v: Float[Tensor, "groups b queries"]
    Kv: Float[Tensor, "groups a queries"]
    Ku: Float[Tensor, "groups b queries"]
    certain: Bool[Tensor, "groups queries"]
    K: Float[Tensor, "groups a b"]


class Moments(NamedTuple):
    """log Z and ⟨s⟩ (0 at absent spins) where `Factors.certain`."""

    log_Z: Float[Tensor, "groups queries"]
    mean: Float[Tensor, "groups queries spins"]


def coupling_energies(J: Float[Tensor, "g n n"], spins_a: int) -> Float[Tensor, "g a b"]:
    """½ sᵀJs of every state, low bits along rows, high bits along columns."""
    SA = states(spins_a, J.dtype, J.device)
    SB = states(J.shape[-1] - spins_a, J.dtype, J.device)
    within_a = ((SA @ J[:, :spins_a, :spins_a]) * SA).sum(-1) / 2
    within_b = ((SB @ J[:, spins_a:, spins_a:]) * SB).sum(-1) / 2
    between = SA @ (J[:, :spins_a, spins_a:] @ SB.mT)
    return between.add_(within_a.unsqueeze(-1)).add_(within_b.unsqueeze(-2))


def half_weights(
    fields: Float[Tensor, "g n q"], active: Bool[Tensor, "#g n q"], spins_a: int
) -> tuple[Float[Tensor, "g a q"], Float[Tensor, "g b q"]]:
    """U and v, each with maximum 1; 0 at states in which an absent spin is +1."""
    n = fields.shape[1]
    parts = (spins_a // 2, spins_a - spins_a // 2, (n - spins_a) // 2, (n - spins_a + 1) // 2)
    S = part_states(parts, fields.dtype, fields.device)
    up, down = S.relu(), (-S).relu()
    penalties = torch.cat([down, up], 1) @ torch.cat([fields.relu(), (-fields).relu()], 1)
    possible = up @ (~active).to(S.dtype) == 0
    weights = penalties.mul_(-2).exp_().mul_(possible)
    a_low, a_high, b_low, b_high = weights.split([1 << m for m in parts], 1)
    u = (a_high.unsqueeze(2) * a_low.unsqueeze(1)).flatten(1, 2)
    v = (b_high.unsqueeze(2) * b_low.unsqueeze(1)).flatten(1, 2)
    return u, v


def times_K(
    K: Float[Tensor, "g a b"], x: Float[Tensor, "g b q"], lay: Layout
) -> Float[Tensor, "g a q"]:
    """Kx for x that is zero outside the columns of each block."""
    out = x.new_empty(x.shape[0], K.shape[1], x.shape[2])
    for start, end, cols in lay.blocks:
        torch.bmm(K[:, :, :cols], x[:, :cols, start:end], out=out[:, :, start:end])
    return out


def times_K_transposed(
    K: Float[Tensor, "g a b"], x: Float[Tensor, "g a q"], lay: Layout
) -> Float[Tensor, "g b q"]:
    """Kᵀx in the columns of each block, zero elsewhere."""
    out = x.new_zeros(x.shape[0], K.shape[2], x.shape[2])
    for start, end, cols in lay.blocks:
        torch.bmm(K[:, :, :cols].mT, x[:, :, start:end], out=out[:, :cols, start:end])
    return out


def forward(
    h: Float[Tensor, "g q n"],
    J: Float[Tensor, "g n n"],
    active: Bool[Tensor, "#g q n"],
    lay: Layout,
) -> tuple[Moments, Factors]:
    """Log Z and ⟨s⟩ in the dtype of h, and what the backward pass needs."""
    n, spins_a = h.shape[-1], lay.spins_a
    active = active.mT
    absent = (~active).to(h.dtype)
    absent_J = J @ absent
    fields = (h.mT + absent_J).masked_fill_(~active, 0.0)
    u, v = half_weights(fields, active, spins_a)
    K = coupling_energies(J, spins_a)
    K_max = K.amax((1, 2))
    K = K.sub_(K_max[:, None, None]).exp_()

    Kv = times_K(K, v, lay)
    p_a = u * Kv
    Z = p_a.sum(1)
    limits = torch.finfo(h.dtype)
    certain = 3 * 2.0**n * limits.tiny / limits.eps <= Z
    inverse_Z = torch.where(certain, 1 / Z, 0.0).unsqueeze(1)
    p_a.mul_(inverse_Z)
    u.mul_(inverse_Z)
    Ku = times_K_transposed(K, u, lay)
    p_b = v * Ku
    SA, SB = (states(m, h.dtype, h.device) for m in (spins_a, lay.spins_b))
    mean = torch.cat([SA.mT @ p_a, SB.mT @ p_b], 1).masked_fill_(~active, 0.0)
    constant = K_max.unsqueeze(-1) - (absent_J * absent).sum(1) / 2
    log_Z = Z.log() + fields.abs().sum(1) + constant
    return Moments(log_Z, mean.mT), Factors(u, v, Kv, Ku, certain, K)


def backward(
    grad_log_Z: Float[Tensor, "g q"],
    grad_mean: Float[Tensor, "g q n"],
    mean: Float[Tensor, "g q n"],
    active: Bool[Tensor, "#g q n"],
    factors: Factors,
    lay: Layout,
) -> tuple[Float[Tensor, "g q n"], Float[Tensor, "g n n"]]:
    """Gradients in h and J from those in ⟨s⟩ and log Z; nothing from uncertain queries."""
    u, v, Kv, Ku, certain, K = factors
    SA, SB = (states(m, u.dtype, u.device) for m in (lay.spins_a, lay.spins_b))
    g = grad_mean.mT
    constant = (grad_log_Z - (grad_mean * mean).sum(-1)).unsqueeze(1)
    fA = torch.cat([SA, SA.new_ones(len(SA), 1)], 1) @ torch.cat([g[:, : lay.spins_a], constant], 1)
    fB = SB @ g[:, lay.spins_a :]
    u_fA = fA.mul_(u)
    v_fB = fB.mul_(v)

    p_f_a = times_K(K, v_fB, lay).mul_(u).addcmul_(u_fA, Kv)
    p_f_b = times_K_transposed(K, u_fA, lay).mul_(v).addcmul_(v_fB, Ku)
    grad_h = torch.cat([SA.mT @ p_f_a, SB.mT @ p_f_b], 1).masked_fill_(~active.mT, 0.0)

    p_f = torch.zeros_like(K)
    for start, end, cols in lay.blocks:
        block = p_f[:, :, :cols]
        block.baddbmm_(u_fA[:, :, start:end], v[:, :cols, start:end].mT)
        block.baddbmm_(u[:, :, start:end], v_fB[:, :cols, start:end].mT)
    p_f.mul_(K)
    within_a = (SA.mT * p_f.sum(2).unsqueeze(1)) @ SA
    within_b = (SB.mT * p_f.sum(1).unsqueeze(1)) @ SB
    between = SA.mT @ (p_f @ SB)
    grad_J = torch.cat([torch.cat([within_a, between], 2), torch.cat([between.mT, within_b], 2)], 1)
    # K saw the absent spins at -1: take their pairs out again.
    absent = (~active).to(u.dtype).expand(grad_mean.shape)
    cross = grad_h @ absent
    both = absent.mT @ (absent * (grad_log_Z * certain).unsqueeze(-1))
    return grad_h.mT, off_diagonal(grad_J + cross + cross.mT - both) / 2


def off_diagonal(x: Float[Tensor, "m n n"]) -> Float[Tensor, "m n n"]:
    """X with a zero diagonal."""
    return x - torch.diag_embed(x.diagonal(dim1=-2, dim2=-1))
