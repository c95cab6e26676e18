"""Independent reads of a band: the window is followed forwards, and spins are drawn backwards.

The last window of a read is drawn from the weights α of its states; then, from the newest to the
oldest, each spin that had left the window from p(s_{t-w} | window t) ∝ α_{t-1} K_t. All in float64
and log space: without limits on h and J.
"""

from math import isqrt

import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor
from torch.nn import functional as F

from qattn.couplings import Couplings
from qattn.exact.chain import log_space
from qattn.ising.states import invert_cdf


def draw(
    h: Float[Tensor, "g n q"],
    couplings: Couplings,
    lengths: Int[Tensor, "#g q"],
    num_reads: int,
    generator: torch.Generator | None,
) -> Int8[Tensor, "g q reads n"]:
    """Independent reads; each takes O(n), after O(n 2^w) of its query."""
    G, n, Q = h.shape
    spins = torch.ones(G, Q, num_reads, n, dtype=torch.int8, device=h.device)
    values = couplings.values[..., : max(0, n - 1)].double()
    values = F.pad(values, (0, 1)) if values.shape[2] == 0 else values
    everything = torch.ones(G, Q, dtype=torch.bool, device=h.device)
    for g, q, fields, J, L in log_space.Lanes(everything, h.double(), values, lengths):
        spins[g, q] = _drawn(fields, J, L, num_reads, generator)
    return spins


def _drawn(
    h: Float[Tensor, "lanes n"],
    values: Float[Tensor, "lanes n w"],
    lengths: Int[Tensor, " lanes"],
    num_reads: int,
    generator: torch.Generator | None,
) -> Int8[Tensor, "lanes reads n"]:
    lanes, n, w = values.shape
    every = isqrt(n - 1) + 1 if n else 1
    # Messages are kept once in √n spins and computed again for √n spins at a time.
    kept: list[Tensor | None] = [None]
    for t, (_, log_A) in enumerate(log_space.filtered(h, -h, values)):
        if (t + 1) % every == 0:
            kept.append(log_A)
    spins = torch.ones(n, lanes, num_reads, dtype=torch.int8, device=h.device)
    state = torch.zeros(lanes, num_reads, dtype=torch.long, device=h.device)
    for start in reversed(range(0, n, every)):
        part = slice(start, start + every)
        steps = log_space.filtered(h[:, part], -h[:, part], values[:, part], kept[start // every])
        for t, (joint, log_A) in reversed(list(enumerate(steps, start))):
            ending = (lengths == t + 1).nonzero().squeeze(1)
            uniforms = torch.rand(
                2, lanes, num_reads, generator=generator, device=h.device, dtype=h.dtype
            )
            state[ending] = invert_cdf(log_A[ending].softmax(1), uniforms[0, ending])
            spins[t] = 2 * (state & 1) - 1
            p_up = (joint[:, 1] - joint[:, 0]).flatten(1).sigmoid().gather(1, state)
            state = (state >> 1) + ((uniforms[1] < p_up).long() << (w - 1))
    return spins.permute(1, 2, 0)
