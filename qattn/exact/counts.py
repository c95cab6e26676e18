"""To be replaced: enumeration of every query."""

import torch

from qattn.exact.engine import Solution


def _log_weights(h, couplings, lengths):
    G, n, Q = h.shape
    states = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=h.dtype)] * n).view(-1, n)
    rows = []
    for q in range(Q):
        L = lengths[:, q].expand(G)
        active = (torch.arange(n) < L[:, None]).to(h.dtype)
        s = states[None] * active[:, None]
        ok = ((states[None] == -1) | (active[:, None] == 1)).all(-1)
        w = (s @ h[:, :, q, None]).squeeze(-1) + couplings.interaction(s.mT)
        rows.append(w.masked_fill(~ok, -torch.inf))
    return states, torch.stack(rows, 1)


def _values(h, couplings, lengths):
    states, w = _log_weights(h, couplings, lengths)
    p = w.softmax(-1)
    return (p @ states.relu()).mT, w.logsumexp(-1), states, p


def forward(h, couplings, lengths):
    up, log_Z, *_ = _values(h, couplings, lengths)
    return Solution(up, log_Z, torch.ones((), dtype=torch.bool), ())


def backward(grad_up, grad_log_Z, h, couplings, lengths, solution):
    with torch.enable_grad():
        h, v = h.detach().requires_grad_(), couplings.values.detach().requires_grad_()
        up, log_Z, *_ = _values(h, couplings.with_values(v), lengths)
        out = (up * grad_up).sum() if grad_up is not None else (log_Z * grad_log_Z).sum()
        return torch.autograd.grad(out, (h, v), allow_unused=True, materialize_grads=True)


def draw(h, couplings, lengths, num_reads, generator):
    states, w = _log_weights(h, couplings, lengths)
    G, Q, S = w.shape
    i = torch.multinomial(w.softmax(-1).flatten(0, 1), num_reads, True, generator=generator)
    return states[i].view(G, Q, num_reads, -1).to(torch.int8)
