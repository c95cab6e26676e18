r"""Bucket elimination with tables of at most w spins, and pair couplings beyond.

Eliminating spin i turns what couples it, tables m_c and pair couplings, into a function of its
scope,

.. math::
    m_i = \ln \sum_{s_i} \exp\Big(s_i f_i + \sum_c m_c + s_i \sum_u P_{iu} s_u\Big).

A scope K of at most w spins gets a table. Other spins d are left to pair couplings:

1. a table that holds such a spin, m = a + s_d b with a and b of the other spins, becomes
   g + s_d (f_d + Σ_u P_du s_u). f and P are the least-squares fit of b, and g is the mean of what
   is left over s_d;
2. with x half the logit of i from its table, ln 2 cosh(x + Σ_d P_id s_d) becomes
   ln 2 cosh x + (1 - tanh² x) Σ_d ln cosh P_id, and as pair couplings, tanh P_id times the fit of
   tanh x and tanh P_id tanh P_id' ⟨1 - tanh² x⟩: right to second order in P_id.

Fits and means are weighted by e^m times the factor of the couplings within K: the distribution of
these spins as far as it is known. Equal weights, which would keep Walsh coefficients, are far worse
where couplings are strong. The spins of K are those whose loss would cost the most Walsh
coefficients of third or higher order. Nothing of this says that the logits are good: the weights of
the reads do, and with very narrow tables (w = 1, 2) logits are too sure of themselves.

It is at its best on lattices and random graphs with loops, where messages between single spins say
little; three dimensions at the temperature of the glass transition and below need wide tables.

Mini-buckets (Dechter and Rish, J. ACM 50, 107 (2003)) truncate as well, to bounds.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.exact.bucket_tree import Message, plus
from qattn.ising.states import states

RIDGE = 1e-6
"""Added to the mean squares of spins, 1, in fits: at low temperatures, some hardly vary."""


class Truncated(NamedTuple):
    """Logits of the core as functions of scopes.

    Attributes:
        kept: The positions in the table of each, descending.
        others: Those of which its logit is linear.
        tables: The tables.
        linear: The coefficients.
    """

    kept: list[tuple[int, ...]]
    others: list[tuple[int, ...]]
    tables: list[Float[Tensor, "problems _"]]
    linear: list[Float[Tensor, "problems _"]]


def truncated(
    f: Float[Tensor, "problems n"],
    P: Float[Tensor, "problems n n"],
    messages: dict[int, list[Message]],
    linked: list[set[int]],
    width: int,
    kept: list[tuple[int, ...]] | None = None,
) -> Truncated:
    """Eliminate the core from its last position to its first.

    Args:
        f: Fields, with β; they are changed.
        P: Couplings, with β; they are changed.
        messages: Tables that come from below, to the position that they name first.
        linked: Of each position of the core, those that it may be coupled to; changed.
        width: Largest number of spins in a table.
        kept: The spins of each table; None chooses them, alike for all problems.
    """
    n = len(linked)
    found = Truncated([()] * n, [()] * n, [f] * n, [f] * n)
    # Where no field breaks the symmetry of a change of all signs, rounding must not either.
    symmetric = (f == 0).all(1, keepdim=True)
    for i in reversed(range(n)):
        own = messages.pop(i, [])
        around = {u for u in linked[i].union(*(scope for scope, _ in own)) if u < i}
        keep = _strongest(P, i, around, own, width) if kept is None else kept[i]
        # Tables over i and kept spins; what they lose goes into fields and pair couplings.
        total = f.new_zeros(len(f), 2 << len(keep))
        for scope, table in own:
            part = scope
            for d in sorted(set(scope) - {i, *keep}):
                table, slope = _without(table, part, d, f, P)
                part = tuple(u for u in part if u != d)
                _couple(f, P, [d], part, slope.unsqueeze(1), symmetric)
                _link(linked, [d], part)
            total = plus(total, table, part, (i, *keep))
        # Half the logit from the table, and the other spins' share.
        minus, up = total.unflatten(1, (2, -1)).unbind(1)
        others = sorted((linked[i] & around).difference(keep))
        c = P[:, i, others]
        x = (up - minus) / 2 + f[:, i, None] + P[:, i, list(keep)] @ _signs(len(keep), f).T
        x = torch.where(symmetric, (x - x.flip(1)) / 2, x)
        found.kept[i], found.others[i] = keep, tuple(others)
        found.tables[i], found.linear[i] = 2 * x, 2 * c
        # What is left when i is summed over.
        message = (up + minus) / 2 + _log_cosh(x)
        if others:
            m, t = x.tanh(), c.tanh()
            weight = _weights(message, keep, f, P).softmax(1)
            slope = _fit(m, weight)
            _couple(f, P, others, keep, t.unsqueeze(2) * slope.unsqueeze(1), symmetric)
            variance = (weight * (1 - m * m)).sum(1)
            among = (t.unsqueeze(2) * t.unsqueeze(1) * variance[:, None, None]).triu(1)
            P[:, torch.tensor(others)[:, None], others] += among + among.mT
            _link(linked, others, [*keep, *others])
            message = message + _log_cosh(c).sum(1, keepdim=True) * (1 - m * m)
        if keep:
            messages.setdefault(keep[0], []).append((keep, message))
    return found


def _strongest(
    P: Tensor, i: int, around: set[int], own: list[Message], width: int
) -> tuple[int, ...]:
    """The spins whose loss would cost the most, descending."""
    if len(around) <= width:
        return tuple(sorted(around, reverse=True))
    strength = {u: float(P[:, i, u].tanh().square().mean()) for u in around}
    for scope, table in own:
        # Squared Walsh coefficients: those of third order or higher, and those of pairs with i.
        bits = (_signs(len(scope), table) + 1) / 2
        power = _walsh(table).square().mean(0)
        order = bits.sum(1)
        lost = (power * ((order > 2) | ((order == 2) & (bits[:, 0] > 0)))) @ bits
        for u, value in zip(scope[1:], lost[1:].tolist(), strict=True):
            strength[u] += value
    chosen = sorted(around, key=lambda u: (-strength[u], u))[:width]
    return tuple(sorted(chosen, reverse=True))


def _without(
    table: Tensor, scope: tuple[int, ...], d: int, f: Tensor, P: Tensor
) -> tuple[Tensor, Tensor]:
    """The mean over s_d of a table without a term that is linear in s_d, and that term's slopes."""
    place = scope.index(d)
    halves = [
        t.unflatten(1, (1 << place, 2, -1)).unbind(2) for t in (table, _weights(table, scope, f, P))
    ]
    (low, high), (w_low, w_high) = (tuple(t.flatten(1) for t in pair) for pair in halves)
    even, odd = (high + low) / 2, (high - low) / 2
    m = ((w_high - w_low) / 2).tanh()  # ⟨s_d⟩ given the others
    weight = (w_low + w_high - torch.logaddexp(w_low, w_high)).softmax(1)  # times 1 - m²
    slope = _fit(odd, weight)
    line = slope[:, :1] + slope[:, 1:] @ _signs(len(scope) - 1, f).T
    return even + m * (odd - line), slope


def _weights(table: Tensor, scope: tuple[int, ...], f: Tensor, P: Tensor) -> Tensor:
    """Logarithm of the weights of a table's states: itself and the couplings within its scope."""
    S, members = _signs(len(scope), f), torch.tensor(scope, dtype=torch.int64, device=f.device)
    pairs = P[:, members[:, None], members]
    return table + f[:, members] @ S.T + ((S @ pairs) * S).sum(2) / 2


def _fit(y: Tensor, weight: Tensor) -> Float[Tensor, "problems one_and_spins"]:
    """The least-squares fit of y by 1 and the spins, with weights."""
    num_spins = y.shape[1].bit_length() - 1
    X = torch.cat([y.new_ones(y.shape[1], 1), _signs(num_spins, y)], 1)
    gram = (weight.unsqueeze(1) * X.T) @ X + RIDGE * torch.eye(num_spins + 1).to(y)
    slope: Tensor = torch.linalg.solve(gram, (weight * y) @ X)
    return slope


def _couple(
    f: Tensor,
    P: Tensor,
    spins: list[int],
    scope: tuple[int, ...],
    slope: Float[Tensor, "problems spins one_and_scope"],
    symmetric: Tensor,
) -> None:
    """Add fields, and couplings of spins to a scope that holds none of them."""
    f[:, spins] += slope[:, :, 0].where(~symmetric, 0)
    rows = torch.tensor(spins)[:, None]
    P[:, rows, list(scope)] += slope[:, :, 1:]
    P[:, list(scope), rows] += slope[:, :, 1:]


def _link(linked: list[set[int]], spins: list[int], scope: Iterable[int]) -> None:
    """Spins are coupled to all of a scope now."""
    for u in scope:
        for d in spins:
            if u != d:
                linked[u].add(d)
                linked[d].add(u)


def _log_cosh(x: Tensor) -> Tensor:
    return x.abs() + torch.log1p(torch.exp(-2 * x.abs())) - math.log(2)


def _walsh(table: Tensor) -> Tensor:
    """Coefficients of the products of spins, numbered by the spins that are in them."""
    for place in range(table.shape[1].bit_length() - 1):
        low, high = table.unflatten(1, (1 << place, 2, -1)).unbind(2)
        table = torch.stack([(low + high) / 2, (high - low) / 2], 2).flatten(1)
    return table


def _signs(num_spins: int, like: Tensor) -> Float[Tensor, "states spins"]:
    """The states of a table's entries."""
    return states(num_spins, like.dtype, like.device).flip(1)
