r"""Sums over all states of sparse models by eliminating one spin after the other.

With the scopes S_v of an elimination order (:mod:`qattn.exact.elimination`), every spin v sends the
spin of its scope that is eliminated next, its parent, a table of 2^|S_v| numbers,

.. math::
    m_v(S_v) = \log \sum_{s_v} \exp\Big(s_v f_v(S_v) + \sum_{c} m_c(s_v, S_v)\Big), \qquad
    f_v = h_v + \sum_{u \in S_v} J_{vu} s_u,

the sum over its children c; what the roots send adds up to log Z. On the way p(s_v = +1 | S_v), the
sigmoid of the difference of the two exponents, is kept. On the way back p(v, S_v) gives ⟨s_v⟩ and
⟨s_v s_u⟩ and, summed over what is not in the scope of a child, p(S_c). Reads draw s_v in the same
order, given S_v: they are independent (R. Dechter, Artificial Intelligence 113, 41 (1999)).

A table has the first spin of its scope as the most significant bit of an entry's number, set where
that spin is +1. All steps are PyTorch's and differentiable.
"""

from collections.abc import Callable
from itertools import groupby
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qattn.exact.elimination import Elimination
from qattn.ising.states import states

LEAF_SPINS = 8
"""Spins whose 2^n states are multiplied at once."""


Message = tuple[tuple[int, ...], Tensor]
"""A scope, and a table over it, shape (problems, 2^spins)."""


class Conditionals(NamedTuple):
    """What elimination leaves.

    Attributes:
        log_Z: log Z of each problem.
        up: p(s_v = +1 | S_v) in the order of elimination.
        messages: Messages to spins that were not eliminated.
    """

    log_Z: Float[Tensor, " problems"]
    up: list[Float[Tensor, "problems _"]]
    messages: dict[int, list[Message]]


def eliminate(
    h: Float[Tensor, "problems n"],
    J: Float[Tensor, "problems n n"],
    elimination: Elimination,
    readout: Callable[[Tensor], Tensor] = torch.sigmoid,
) -> Conditionals:
    """The way up: messages from the first spin of the order to the last.

    Args:
        h: Fields with β.
        J: Couplings with β.
        elimination: The order; where it ends before the last spin, log Z is without the messages
            to the spins that are left.
        readout: What is kept of ln p(s_v = +1 | S_v) - ln p(s_v = -1 | S_v).
    """
    log_Z = h.new_zeros(len(h))
    linked = (J != 0).any(0).tolist()
    messages: dict[int, list[Message]] = {}
    up = []
    for v, scope in zip(elimination.order, elimination.scopes, strict=True):
        # f_v over the spins of the scope that are coupled to v in any problem.
        coupled = tuple(u for u in scope if linked[v][u])
        field = h[:, v, None]
        for u in coupled:
            coupling = J[:, v, u, None]
            field = torch.stack([field - coupling, field + coupling], -1).flatten(1)
        exponents = [_spread(-field, coupled, scope), _spread(field, coupled, scope)]
        for child_scope, message in messages.pop(v, []):
            halves = message.unflatten(1, (2, -1)).unbind(1)
            exponents = [
                plus(exponent, half, child_scope[1:], scope)
                for exponent, half in zip(exponents, halves, strict=True)
            ]
        down_exponent, up_exponent = exponents
        up.append(readout(up_exponent - down_exponent))
        message = torch.logaddexp(up_exponent, down_exponent)
        if scope:
            messages.setdefault(scope[0], []).append((scope, message))
        else:
            log_Z = log_Z + message[:, 0]
    return Conditionals(log_Z, up, messages)


def moments(
    up: list[Float[Tensor, "problems _"]], elimination: Elimination
) -> tuple[Float[Tensor, "problems n"], Float[Tensor, "problems n n"]]:
    """The way back: ⟨s_v⟩, and ⟨s_v s_u⟩ of every pair that is in a scope together, else 0."""
    problems, n = len(up[0]), len(up)
    scope_of = dict(zip(elimination.order, elimination.scopes, strict=True))
    children: dict[int, list[int]] = {v: [] for v in scope_of}
    for c, scope in scope_of.items():
        if scope:
            children[scope[0]].append(c)
    # p(S_v) of spins that wait for their turn; that of a root, whose scope is empty, is 1.
    weights: dict[int, Tensor] = {}
    mean: dict[int, Tensor] = {}
    row: dict[int, Tensor] = {}
    for v, up_given in zip(reversed(elimination.order), reversed(up), strict=True):
        # p(s_v, S_v) for either sign of s_v, and their difference: the expectation of s_v.
        scope, p = scope_of[v], weights.pop(v, up_given.new_ones(problems, 1))
        plus = p * up_given
        minus = p - plus
        signed = plus - minus
        mean[v] = signed.sum(1)
        # ⟨s_v s_u⟩ for the scope's spins u.
        place = torch.tensor(scope, dtype=torch.int64, device=p.device)
        row[v] = p.new_zeros(problems, n).index_copy(1, place, times_spins(signed, len(scope)))
        for c in children[v]:
            halves = [_summed(half, scope, scope_of[c][1:]) for half in (minus, plus)]
            weights[c] = torch.stack(halves, 1).flatten(1)
    pairs = torch.stack([row[v] for v in range(n)], 1)
    return torch.stack([mean[v] for v in range(n)], 1), pairs + pairs.mT


def draw(
    up: list[Float[Tensor, "problems _"]],
    elimination: Elimination,
    num_reads: int,
    generator: torch.Generator | None,
) -> Int[Tensor, "problems reads n"]:
    """Spins of independent reads as int8, from one random number each."""
    n, size, device = len(up), (len(up[0]), num_reads), up[0].device
    bits = torch.zeros(n, *size, dtype=torch.int64, device=device)
    for i in reversed(range(n)):
        # Number of the entry of the spins that are drawn already.
        entry = torch.zeros(size, dtype=torch.int64, device=device)
        for u in elimination.scopes[i]:
            entry = torch.add(bits[u], entry, alpha=2)
        uniforms = torch.rand(size, generator=generator, dtype=up[i].dtype, device=device)
        bits[elimination.order[i]] = uniforms < up[i].gather(1, entry)
    return (2 * bits - 1).to(torch.int8).permute(1, 2, 0)


def _runs(scope: tuple[int, ...], part: tuple[int, ...]) -> list[tuple[bool, int]]:
    """Neighbouring spins of `scope` that are in `part`, or are not, as one axis: (whether, size).

    Fewer axes than spins: PyTorch's operations have a limit, and long axes are quicker.
    """
    members = set(part)
    groups = groupby(scope, members.__contains__)
    return [(inside, 1 << len(list(spins))) for inside, spins in groups]


def _spread(table: Tensor, part: tuple[int, ...], scope: tuple[int, ...]) -> Tensor:
    """A table over a part of the scope as one over the scope."""
    return plus(table.new_zeros(len(table), 1 << len(scope)), table, part, scope)


def plus(total: Tensor, table: Tensor, part: tuple[int, ...], scope: tuple[int, ...]) -> Tensor:
    """A table over the scope plus one over a part of it."""
    runs = _runs(scope, part)
    wide = total.reshape(-1, *[size for _, size in runs])
    narrow = table.reshape(-1, *[size if inside else 1 for inside, size in runs])
    return (wide + narrow).reshape(total.shape)


def _summed(table: Tensor, scope: tuple[int, ...], part: tuple[int, ...]) -> Tensor:
    """A table over the scope summed over the spins that are not in the part."""
    runs = _runs(scope, part)
    outside = [axis for axis, (inside, _) in enumerate(runs, 1) if not inside]
    wide = table.reshape(-1, *[size for _, size in runs])
    return wide.sum(outside).reshape(len(table), -1) if outside else table


def times_spins(table: Tensor, num_spins: int) -> Float[Tensor, "problems spins"]:
    """Σ over the entries of the table times each spin."""
    if num_spins <= LEAF_SPINS:
        return table @ states(num_spins, table.dtype, table.device).flip(1)
    first = num_spins // 2
    halves = table.unflatten(1, (1 << first, -1))
    return torch.cat(
        [times_spins(halves.sum(2), first), times_spins(halves.sum(1), num_spins - first)], 1
    )
