r"""Moments of spins in a band by transfer matrices, in plain PyTorch.

A window of w spins has 2^w states. Advancing it by m spins is a matrix product that all queries of
a group share: with a state (old, kept) of the window, of which the oldest m spins leave, and m new
spins,

.. math::
    K_t(\mathrm{kept}, \mathrm{new}, \mathrm{old})
        = e^{\sum_{a\,\mathrm{new}} \sum_d J_{a,a-d} s_a s_{a-d}}, \qquad
    u_t(\mathrm{new}) = e^{\sum_a h_a s_a}, \\
    \alpha_t = u_t \odot K_t \alpha_{t-1} / c_t, \qquad
    \beta_{t-1} = K_t^T (u_t \odot \beta_t) / c_t, \qquad
    \langle n_a \rangle = \sum_{s_a = +1} \alpha_t \beta_t \Big/ \sum \alpha_t \beta_t,

and log Z = Σ log c_t. Gradients are expectations of f(s) = Σ_j g_j (n_j - ⟨n_j⟩) + c: a second
component of each message carries the part of f that its spins have (an expectation semiring),

.. math::
    \alpha^f_t = u_t \odot K_t \alpha^f_{t-1} / c_t + f_t \odot \alpha_t, \qquad
    \beta^f_{t-1} = K_t^T (u_t \odot (\beta^f_t + f_t \odot \beta_t)) / c_t,

so that E[f s_a] and E[f s_a s_b] are sums over αᶠβ + αβᶠ.

Spins before the first are a window of one state without couplings. A query may end within a block:
the block's absent spins are fixed to -1, and the present ones get the field Σ J over the absent
ones, which undoes that. Scaling: u and K are divided by their maxima, the messages by their sums.
What underflows is then below tiny of a message, and the least Σ_{s_a=+1} αβ tells whether it
matters.

Queries are last in every tensor, (groups, …, queries), in ascending order of their lengths, so
that those which have ended are a leading part.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

SPINS_A_STEP = 4
"""Spins by which the window advances, at most: fewer matrix products, of larger matrices."""

CHUNK_ELEMENTS = 1 << 22
"""Numbers of the messages that are kept at a time; others are computed again from checkpoints."""


class Chain:
    """Fields and couplings of some groups and queries, cut into blocks of m spins.

    Args:
        h: Fields.
        values: Couplings J_{j,j-d} at [:, j, d - 1], of at least one distance.
        lengths: On the CPU, in ascending order (of the longest of all groups).
        step: Spins of a block, at most the width.
    """

    def __init__(
        self,
        h: Float[Tensor, "g n q"],
        values: Float[Tensor, "g n w"],
        lengths: Int[Tensor, "#g q"],
        step: int | None = None,
    ) -> None:
        self.shape, self.width = h.shape, values.shape[2]
        self.step = min(self.width, SPINS_A_STEP) if step is None else step
        longest = lengths.amax(0)
        self.num_blocks = -(-int(longest.max()) // self.step)
        n = self.num_blocks * self.step
        self.lengths = lengths.to(h.device)
        j = torch.arange(n, device=h.device)
        self.present = j[:, None] < self.lengths[:, None]
        # Queries that have no spin in block t are the first ended[t].
        starts = self.step * torch.arange(self.num_blocks + 1)
        self.ended = torch.searchsorted(longest.contiguous(), starts, right=True).tolist()
        self.uneven = len(lengths) > 1

        # Couplings to positions before the first are those of no pair.
        self.no_pair = j[:, None] < torch.arange(1, self.width + 1, device=h.device)
        self.values = self.padded(values).masked_fill(self.no_pair, 0.0)
        h = self.padded(h).masked_fill(~self.present, 0.0)
        self.undo, self.cause = self._fixed_spins(n)
        h.view(-1).index_add_(0, self.undo, self.values.view(-1)[self.cause])
        self.log_scale = torch.where(self.present, h.abs(), -h).sum(1)
        self.h = h.masked_fill(~self.present, -torch.inf)

        bits = (torch.arange(1 << self.step)[:, None] >> torch.arange(self.step).flip(0)) & 1
        self.bits = bits.to(h)
        self.pairs = self._pairs().to(h)

    def padded(self, x: Float[Tensor, "g n k"]) -> Float[Tensor, "g m k"]:
        """With as many rows as the blocks have spins."""
        n = self.num_blocks * self.step
        return F.pad(x[:, :n], (0, 0, 0, max(0, n - x.shape[1])))

    def _fixed_spins(self, n: int) -> tuple[Tensor, Tensor]:
        """Of each pair with an absent spin of a query's last block: where h and where J stand."""
        G, _, Q = self.shape
        w, device = self.width, self.lengths.device
        L = self.lengths.expand(G, Q)[:, :, None, None]
        absent = L + torch.arange(self.step - 1, device=device)[:, None]
        d = torch.arange(1, w + 1, device=device)
        end = (L + self.step - 1) // self.step * self.step
        g, q, i, k = ((absent < end) & (absent >= d)).nonzero(as_tuple=True)
        a, d = absent[g, q, i, 0], k + 1
        return (g * n + a - d) * Q + q, (g * n + a) * w + d - 1

    def _pairs(self) -> Tensor:
        """s_a s_{a-d} of the states (kept, new, old), a row for each new spin a and distance d."""
        m, w = self.step, self.width
        states = (torch.arange(1 << (w + m))[:, None] >> torch.arange(w + m).flip(0)) & 1
        s = 2 * states - 1
        products = [s[:, w + i] * s[:, w + i - d] for i in range(m) for d in range(1, w + 1)]
        # (old, kept, new), in the order of time, becomes (kept, new, old).
        return torch.stack(products).view(m * w, 1 << m, -1).mT.flatten(1)

    def weights(self, chunk: range) -> Float[Tensor, "g b new q"]:
        """u of each block, divided by its maximum: a product over its spins."""
        h = self.h.unflatten(1, (self.num_blocks, self.step))[:, chunk.start : chunk.stop]
        down = torch.exp(-2 * h.relu())
        up = torch.exp(-2 * (-h).relu())
        spin = torch.stack([down, up], 3)
        u = spin[:, :, 0]
        for i in range(1, self.step):
            u = (u.unsqueeze(3) * spin[:, :, i].unsqueeze(2)).flatten(2, 3)
        return u

    def tables(self, chunk: range) -> tuple[Tensor, Tensor]:
        """K of each block, (g, b, kept, new, old), over its maximum, and that maximum's log."""
        m, w = self.step, self.width
        rows = self.values.unflatten(1, (self.num_blocks, m))[:, chunk.start : chunk.stop]
        log_K = rows.flatten(2) @ self.pairs
        top = log_K.amax(2)
        K = (log_K - top.unsqueeze(2)).exp_()
        return K.unflatten(2, (1 << (w - m), 1 << m, 1 << m)), top

    def chunks(self, components: int) -> list[range]:
        """Blocks whose messages are kept at a time."""
        G, _, Q = self.shape
        size = max(1, CHUNK_ELEMENTS // max(1, components * G * Q << self.width))
        return [range(t, min(t + size, self.num_blocks)) for t in range(0, self.num_blocks, size)]

    def start(self, c: Tensor | None = None) -> Float[Tensor, "g states components q"]:
        """The message before the first block: one state, with the constant part c of f."""
        G, _, Q = self.shape
        A = self.h.new_zeros(G, 1 << self.width, 1 if c is None else 2, Q)
        A[:, 0, 0] = 1.0
        if c is not None:
            A[:, 0, 1] = c
        return A

    def filtered(
        self, chunk: range, A: Tensor, f: Tensor | None = None
    ) -> tuple[list[Tensor], list[Tensor], Tensor, Tensor, Tensor]:
        """Messages before the chunk and after each of its blocks, sums c, and tables."""
        u, (K, top) = self.weights(chunk), self.tables(chunk)
        messages, sums = [A], []
        for i, t in enumerate(chunk):
            first = self.ended[t]
            A = A[..., first - self.shape[2] + A.shape[3] :]
            X = (K[:, i] @ split(A, K[:, i])).unflatten(3, A.shape[2:])
            X *= u[:, None, i, :, None, first:]
            c = X[..., 0, :].sum((1, 2))
            X /= c[:, None, None, None]
            if f is not None:
                X[..., 1, :] += f[:, None, i, :, first:] * X[..., 0, :]
            A = X.flatten(1, 2)
            messages.append(A)
            sums.append(c)
        return messages, sums, u, K, top

    def restarted(self, t: int, B: Tensor | None, ones: Tensor) -> Tensor:
        """Messages at the end of block t: those that arrived, or `ones` where it is the last."""
        G, _, Q = self.shape
        arriving = 0 if B is None else B.shape[3]
        P = ones.shape[0]
        one = ones.expand(G, 1 << self.width, P, Q)
        if B is None:
            return one[..., self.ended[t] :]
        if self.uneven:
            over = self.lengths[:, None, None, Q - arriving :] <= (t + 1) * self.step
            B = torch.where(over, one[..., Q - arriving :], B)
        return torch.cat([one[..., self.ended[t] : Q - arriving], B], 3)


def moments(chain: Chain) -> tuple[Tensor, Tensor, Tensor]:
    """Occupations, log Z, and the least Σ_{s_a=+1} αβ of each query with messages of sum 1."""
    G, _, Q = chain.shape
    m, chunks = chain.step, chain.chunks(1)
    log_Z, A, checkpoints = chain.log_scale, chain.start(), []
    messages: list[Tensor] = []
    for chunk in chunks:
        checkpoints.append(A)
        messages, sums, u, K, top = chain.filtered(chunk, A)
        A = messages[-1]
        for i, t in enumerate(chunk):
            gain = sums[i].log() + top[:, i, None]
            if chain.uneven:
                gain = gain.masked_fill(chain.lengths[:, chain.ended[t] :] <= t * m, 0.0)
            log_Z[:, chain.ended[t] :] += gain

    up = chain.h.new_zeros(G, chain.num_blocks, m, Q)
    least = chain.h.new_full((G, Q), torch.inf)
    one, B = chain.h.new_ones(1, Q), None
    for chunk, checkpoint in zip(reversed(chunks), reversed(checkpoints), strict=True):
        if chunk is not chunks[-1]:
            messages, _, u, K, _ = chain.filtered(chunk, checkpoint)
        for t in reversed(chunk):
            i, q = t - chunk.start, slice(chain.ended[t], None)
            B = chain.restarted(t, B, one)
            joint = (messages[i + 1] * B).unflatten(1, (-1, 1 << m)).sum(1).squeeze(2)
            upper = chain.bits.mT @ joint
            up[:, t, :, q] = upper / joint.sum(1, keepdim=True)
            present = chain.present[:, t * m : (t + 1) * m, q]
            least[:, q] = torch.minimum(least[:, q], upper.masked_fill(~present, torch.inf).amin(1))
            B = passed_back(K[:, i], weighted(B, u[:, i, :, q]))
            B = B / B.sum(1, keepdim=True)
    return up.flatten(1, 2) * chain.present, log_Z, least


def gradients(
    chain: Chain, grad_up: Tensor | None, grad_log_Z: Tensor | None, up: Tensor
) -> tuple[Tensor, Tensor]:
    """E[f s_a] and E[f s_a s_b], as gradients in h and in the couplings' values."""
    G, _, Q = chain.shape
    m, chunks, blocks = chain.step, chain.chunks(2), chain.num_blocks
    c = chain.h.new_zeros(G, Q) if grad_log_Z is None else grad_log_Z
    f = None if grad_up is None else _centred(chain, grad_up, up)
    A, checkpoints = chain.start(c), []
    run: list[Any] = []
    for chunk in chunks:
        checkpoints.append(A)
        run = chain.filtered(chunk, A, None if f is None else f[:, chunk.start : chunk.stop])
        A = run[0][-1]

    grad_h = chain.h.new_zeros(G, blocks, m, Q)
    grad_values = chain.values.new_zeros(G, blocks, m * chain.width)
    # The components of B are in the other order, (βᶠ, β), so that A B sums up to αβᶠ + αᶠβ.
    one, B = torch.stack([torch.zeros_like(c[0]), torch.ones_like(c[0])]), None
    for chunk, checkpoint in zip(reversed(chunks), reversed(checkpoints), strict=True):
        if chunk is not chunks[-1]:
            within = None if f is None else f[:, chunk.start : chunk.stop]
            run = chain.filtered(chunk, checkpoint, within)
        messages, sums, u, K, _ = run
        for t in reversed(chunk):
            i, q = t - chunk.start, slice(chain.ended[t], None)
            B = chain.restarted(t, B, one)
            joint = (messages[i + 1] * B).sum(2).unflatten(1, (-1, 1 << m)).sum(1)
            grad_h[:, t, :, q] = 2 * chain.bits.mT @ joint - c[:, None, q]
            if f is not None:
                own = f[:, t, :, q].repeat(1, 1 << (chain.width - m), 1)
                B = torch.stack([B[:, :, 0] + own * B[:, :, 1], B[:, :, 1]], 2)
            Z = weighted(B, u[:, i, :, q] / sums[i].unsqueeze(1))
            if chain.uneven:
                Z = Z.masked_fill(chain.lengths[:, None, None, None, q] <= t * m, 0.0)
            before = split(messages[i][..., -B.shape[3] :], K[:, i])
            grad_K = K[:, i] * (Z.flatten(3) @ before.mT)
            grad_values[:, t] = (grad_K.flatten(1).unsqueeze(1) @ chain.pairs.mT).squeeze(1)
            B = passed_back(K[:, i], Z)

    grad_h, grad_values = grad_h.flatten(1, 2), grad_values.view(G, -1, chain.width)
    grad_values.view(-1).index_add_(0, chain.cause, grad_h.view(-1)[chain.undo])
    return grad_h * chain.present, grad_values.masked_fill_(chain.no_pair, 0.0)


def _centred(chain: Chain, grad_up: Tensor, up: Tensor) -> Float[Tensor, "g b new q"]:
    """f of each block: g_j p(s_j = -1) where a spin is up and -g_j p(s_j = +1) where it is down."""
    grad = chain.padded(grad_up).masked_fill(~chain.present, 0.0)
    p, cut = chain.padded(up), (chain.num_blocks, chain.step)
    higher, lower = (grad * (1 - p)).unflatten(1, cut), (grad * p).unflatten(1, cut)
    return chain.bits @ higher - (1 - chain.bits) @ lower


def split(A: Float[Tensor, "g states p q"], K: Tensor) -> Float[Tensor, "g kept old pq"]:
    """The states of a window as the kept and the oldest spins, all columns in one."""
    return A.reshape(len(A), K.shape[3], K.shape[1], -1).transpose(1, 2)


def passed_back(K: Tensor, Z: Float[Tensor, "g kept new p q"]) -> Float[Tensor, "g states p q"]:
    """Kᵀ Z, over the states of the window before."""
    B = K.mT @ Z.flatten(3)
    return B.transpose(1, 2).flatten(1, 2).unflatten(2, Z.shape[3:])


def weighted(B: Float[Tensor, "g states p q"], u: Tensor) -> Float[Tensor, "g kept new p q"]:
    """u times B, for the states of the new spins."""
    return B.unflatten(1, (-1, u.shape[1])) * u[:, None, :, None]
