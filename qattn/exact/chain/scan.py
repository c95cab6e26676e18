r"""Moments of spins in a band by transfer matrices, in plain PyTorch.

With the weights K and u of :class:`~qattn.exact.chain.windows.Windows`, a message for each state of
a window goes forwards and another backwards,

.. math::
    \alpha_t = u_t \odot K_t \alpha_{t-1} / c_t, \qquad
    \beta_{t-1} = K_t^T (u_t \odot \beta_t) / c_t, \qquad
    \langle n_a \rangle = \sum_{s_a = +1} \alpha_t \beta_t \Big/ \sum \alpha_t \beta_t,

and log Z = Σ log c_t. Gradients are expectations of f(s) = Σ_j g_j (n_j - ⟨n_j⟩) + c: a second
component of each message carries the part of f that its spins have (an expectation semiring),

.. math::
    \alpha^f_t = u_t \odot K_t \alpha^f_{t-1} / c_t + f_t \odot \alpha_t, \qquad
    \beta^f_{t-1} = K_t^T (u_t \odot (\beta^f_t + f_t \odot \beta_t)) / c_t,

so that E[f s_a] and E[f s_a s_b] are sums over αᶠβ + αβᶠ.

Every product is of positive numbers but for f: occupations keep their relative accuracy. What
underflows is below tiny of a message, whose sum is kept near √(1/tiny); the least Σ_{s_a=+1} αβ
tells whether it matters.

Queries are last in every tensor, (groups, …, queries), in ascending order of their lengths, so
that those which have ended are a leading part.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.exact.chain.windows import Windows

HEIGHT = {torch.float32: 2.0**60, torch.float64: 2.0**490}
"""Sum of the messages: room for what is small beside them, and for the product of two."""


class Filtered(NamedTuple):
    """A chunk forwards: messages before it and after each block, sums c, weights and tables."""

    messages: list[Float[Tensor, "g states p q"]]
    sums: list[Float[Tensor, "g q"]]
    u: Float[Tensor, "g b new q"]
    K: Float[Tensor, "b g kept new old"]
    log_top: Float[Tensor, "b g"]


def moments(windows: Windows) -> tuple[Tensor, Tensor, Tensor]:
    """Occupations; log Z; and, with messages of sum 1, the least Σ_{s_a=+1} αβ of each query."""
    G, Q, m = windows.num_groups, windows.num_queries, windows.step
    chunks, height = windows.chunks(1), HEIGHT[windows.h.dtype]
    log_Z, A, checkpoints = windows.log_scale.clone(), _start(windows), []
    for chunk in chunks:
        checkpoints.append(A)
        run = _filtered(windows, chunk, A)
        A = run.messages[-1]
        for t, c, top in zip(range(chunk.start, chunk.stop), run.sums, run.log_top, strict=True):
            gain = c.log() + top.unsqueeze(1)
            if windows.uneven:
                gain.masked_fill_(windows.lengths[:, windows.ended[t] :] <= t * m, 0.0)
            log_Z[:, windows.ended[t] :] += gain

    up, least, B = [], windows.h.new_full((G, Q), torch.inf), None
    smallest = torch.full_like(least, height)
    one = windows.h.new_full((1, Q), height)
    for chunk, checkpoint in zip(reversed(chunks), reversed(checkpoints), strict=True):
        if chunk is not chunks[-1]:
            run = _filtered(windows, chunk, checkpoint)
        blocks = range(chunk.start, chunk.stop)
        joint = windows.h.new_zeros(G, len(blocks), 1 << windows.width, Q)
        for i, t in reversed(list(enumerate(blocks))):
            q = slice(windows.ended[t], None)
            B = _arrived(windows, t, B, one)
            torch.mul(run.messages[i + 1].squeeze(2), B.squeeze(2), out=joint[:, i, :, q])
            B = _passed_back(run.K[i], _weighted(B, run.u[:, i, :, q]))
            c = B.sum(1, keepdim=True)
            B = B * (height / c)
            smallest[:, q] = torch.minimum(
                smallest[:, q], torch.minimum(c[:, 0, 0], height * run.sums[i])
            )
        joint = joint.unflatten(2, (-1, 1 << m)).sum(2)
        upper, total = windows.bits.mT @ joint, joint.sum(2, keepdim=True)
        value = upper / total
        up.append(value.flatten(1, 2))
        # An occupation below the normal numbers is not accurate either.
        upper = torch.where(value < 8 * torch.finfo(value.dtype).tiny, 0.0, upper / height**2)
        absent = ~windows.in_blocks(windows.present)[:, chunk]
        least = torch.minimum(least, upper.masked_fill(absent, torch.inf).amin((1, 2)))
    occupations = torch.cat(up[::-1], 1).masked_fill(~windows.present, 0.0)
    return occupations, log_Z, least * smallest


def gradients(
    windows: Windows, grad_up: Tensor | None, grad_log_Z: Tensor | None, up: Tensor
) -> tuple[Tensor, Tensor]:
    """E[f s_a] and E[f s_a s_b], as gradients in h and in the couplings' values."""
    G, Q, m = windows.num_groups, windows.num_queries, windows.step
    chunks = windows.chunks(2)
    c = windows.h.new_zeros(G, Q) if grad_log_Z is None else grad_log_Z
    f = None if grad_up is None else _centred(windows, grad_up, up)
    A, checkpoints = _start(windows, c), []
    for chunk in chunks:
        checkpoints.append(A)
        run = _filtered(windows, chunk, A, f)
        A = run.messages[-1]

    grad_h, grad_values = [], []
    # Σ αβ is neither so large nor so small that α or β would leave the range of floats. The
    # components of B are in the other order, (βᶠ, β), so that A B adds up to αβᶠ + αᶠβ.
    unit = HEIGHT[windows.h.dtype] ** 0.5
    one = windows.h.new_zeros(2, Q)
    one[1], B = 1 / unit, None
    for chunk, checkpoint in zip(reversed(chunks), reversed(checkpoints), strict=True):
        if chunk is not chunks[-1]:
            run = _filtered(windows, chunk, checkpoint, f)
        blocks = range(chunk.start, chunk.stop)
        joint = windows.h.new_zeros(G, len(blocks), 1 << windows.width, 2, Q)
        grad_K = torch.empty_like(run.K)
        for i, t in reversed(list(enumerate(blocks))):
            q = slice(windows.ended[t], None)
            B = _arrived(windows, t, B, one)
            torch.mul(run.messages[i + 1], B, out=joint[:, i, ..., q])
            if f is not None:
                own = f[:, t, :, q].repeat(1, 1 << (windows.width - m), 1)
                B = torch.stack([torch.addcmul(B[:, :, 0], own, B[:, :, 1]), B[:, :, 1]], 2)
            Z = _weighted(B, run.u[:, i, :, q] / run.sums[i].unsqueeze(1))
            if windows.uneven:
                Z.masked_fill_(windows.lengths[:, None, None, None, q] <= t * m, 0.0)
            before = _split(run.messages[i][..., -B.shape[3] :], run.K[i])
            torch.matmul(Z.flatten(3), before.mT, out=grad_K[i])
            B = _passed_back(run.K[i], Z)
        upper = windows.bits.mT @ joint.sum(3).unflatten(2, (-1, 1 << m)).sum(2)
        grad_h.append((2 * upper / unit - c[:, None, None]).flatten(1, 2))
        pairs = (grad_K * run.K).flatten(2) @ windows.pairs.mT / unit
        grad_values.append(pairs.transpose(0, 1).reshape(G, -1, windows.width))

    first, second = torch.cat(grad_h[::-1], 1), torch.cat(grad_values[::-1], 1)
    second.view(-1).index_add_(0, windows.cause, first.view(-1)[windows.undo])
    return first.masked_fill(~windows.present, 0.0), second.masked_fill_(windows.no_pair, 0.0)


def _start(windows: Windows, c: Tensor | None = None) -> Float[Tensor, "g states p q"]:
    """The message before the first block: one state, with the constant part c of f."""
    height = HEIGHT[windows.h.dtype]
    shape = windows.num_groups, 1 << windows.width, 1 if c is None else 2, windows.num_queries
    A = windows.h.new_zeros(shape)
    A[:, 0, 0] = height
    if c is not None:
        A[:, 0, 1] = height * c
    return A


def _filtered(windows: Windows, chunk: slice, A: Tensor, f: Tensor | None = None) -> Filtered:
    u, (K, top) = windows.weights(chunk), windows.tables(chunk)
    messages, sums, height = [A], [], HEIGHT[A.dtype]
    for i, t in enumerate(range(chunk.start, chunk.stop)):
        first = windows.ended[t]
        A = A[..., first - windows.num_queries + A.shape[3] :]
        X = (K[i] @ _split(A, K[i])).unflatten(3, A.shape[2:])
        X *= u[:, None, i, :, None, first:]
        c = X[..., 0, :].sum((1, 2))
        sums.append(c / height)
        X *= (height / c)[:, None, None, None]
        if f is not None:
            X[..., 1, :].addcmul_(f[:, None, t, :, first:], X[..., 0, :])
        A = X.flatten(1, 2)
        messages.append(A)
    return Filtered(messages, sums, u, K, top)


def _centred(windows: Windows, grad_up: Tensor, up: Tensor) -> Float[Tensor, "g b new q"]:
    """f of each block: g_j p(s_j = -1) where a spin is up and -g_j p(s_j = +1) where it is down."""
    grad = windows.padded(grad_up).masked_fill(~windows.present, 0.0)
    p = windows.padded(up)
    higher, lower = windows.in_blocks(grad * (1 - p)), windows.in_blocks(grad * p)
    return windows.bits @ higher - (1 - windows.bits) @ lower


def _arrived(windows: Windows, t: int, B: Tensor | None, one: Tensor) -> Tensor:
    """Messages at the end of block t: those passed back, or `one` where the block is the last."""
    Q, first = windows.num_queries, windows.ended[t]
    arriving = 0 if B is None else B.shape[3]
    if arriving == Q - first and not windows.uneven and B is not None:
        return B
    ones = one.expand(windows.num_groups, 1 << windows.width, *one.shape)
    if B is None:
        return ones[..., first:]
    if windows.uneven:
        over = windows.lengths[:, None, None, Q - arriving :] <= (t + 1) * windows.step
        B = torch.where(over, ones[..., Q - arriving :], B)
    return torch.cat([ones[..., first : Q - arriving], B], 3)


def _split(A: Float[Tensor, "g states p q"], K: Tensor) -> Float[Tensor, "g kept old pq"]:
    """The states of a window as the kept and the oldest spins, all columns in one."""
    return A.reshape(len(A), K.shape[3], K.shape[1], -1).transpose(1, 2)


def _weighted(B: Float[Tensor, "g states p q"], u: Tensor) -> Float[Tensor, "g kept new p q"]:
    """u times B, for the states of the new spins."""
    weighted: Tensor = B.unflatten(1, (-1, u.shape[1])) * u[:, None, :, None]
    return weighted


def _passed_back(K: Tensor, Z: Float[Tensor, "g kept new p q"]) -> Float[Tensor, "g states p q"]:
    """Kᵀ Z, over the states of the window before."""
    B = K.mT @ Z.flatten(3)
    passed: Tensor = B.transpose(1, 2).flatten(1, 2).unflatten(2, Z.shape[3:])
    return passed
