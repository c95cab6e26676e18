"""Products of many polynomials in a balanced tree, and what each one's cofactor is.

A level of the tree is a tensor (nodes, coefficients, models): the coefficient of count c of a node
is the weight with which c of its positions are up. A parent is the product of its two children, cut
at the largest count that has a weight.
"""

import torch
from jaxtyping import Float
from torch import Tensor

Level = Float[Tensor, "_ _ models"]


def products(leaves: Level, max_count: int) -> list[Level]:
    """The levels from the leaves to the root; those with an odd number of nodes get a node 1."""
    levels = [_even(leaves, 1.0)]
    while len(levels[-1]) > 1:
        a, b = _children(levels[-1])
        levels.append(_even(multiply(_parents(levels[-1], max_count), a, b), 1.0))
    return levels


def product_tangents(leaves: Level, levels: list[Level], max_count: int) -> list[Level]:
    """The derivatives of :func:`products` in a direction: the leaves' is given."""
    tangents = [_even(leaves, 0.0)]
    for level in levels[:-1]:
        (a, b), (da, db) = _children(level), _children(tangents[-1])
        parents = multiply(multiply(_parents(level, max_count), da, b), a, db)
        tangents.append(_even(parents, 0.0))
    return tangents


def cofactors(root: Level, levels: list[Level]) -> list[Level]:
    """The derivatives of Σ_c root_c (product)_c in the coefficients of every level."""
    found = [root]
    for level in levels[-2::-1]:
        a, b = _children(level)
        below = torch.zeros_like(level)
        correlate(below[0::2], found[-1], b)
        correlate(below[1::2], found[-1], a)
        found.append(below)
    return found[::-1]


def cofactor_tangents(levels: list[Level], tangents: list[Level], cofactors: list[Level]) -> Level:
    """The derivative of the leaves' :func:`cofactors` in a direction."""
    found = torch.zeros_like(cofactors[-1])
    for level, tangent, cofactor in zip(
        levels[-2::-1], tangents[-2::-1], cofactors[:0:-1], strict=True
    ):
        (a, b), (da, db) = _children(level), _children(tangent)
        below = torch.zeros_like(level)
        correlate(correlate(below[0::2], found, b), cofactor, db)
        correlate(correlate(below[1::2], found, a), cofactor, da)
        found = below
    return found


def multiply(out: Level, a: Level, b: Level) -> Level:
    """Add to `out` the product of the polynomials a and b, as far as it has coefficients."""
    most = out.shape[1]
    for shift, factor in enumerate(b.split(1, 1)):
        kept = min(a.shape[1], most - shift)
        if kept > 0:
            out[:, shift : shift + kept].addcmul_(a[:, :kept], factor)
    return out


def correlate(out: Level, parent: Level, sibling: Level) -> Level:
    """Add to `out`_c the sum Σ_r parent_{c+r} sibling_r: the transpose of :func:`multiply`."""
    parent = parent[: len(out)]
    for shift, factor in enumerate(sibling.split(1, 1)):
        kept = min(out.shape[1], parent.shape[1] - shift)
        if kept > 0:
            out[:, :kept].addcmul_(parent[:, shift : shift + kept], factor)
    return out


def _children(level: Level) -> tuple[Level, Level]:
    return level[0::2], level[1::2]


def _parents(level: Level, max_count: int) -> Level:
    """Zeros in the shape of the level above."""
    nodes, width, models = level.shape
    return level.new_zeros(nodes // 2, min(2 * width - 2, max_count) + 1, models)


def _even(level: Level, constant: float) -> Level:
    """With a constant polynomial as one more node, if there is none or an odd number above 1."""
    nodes = len(level)
    if nodes == 1 or (nodes and nodes % 2 == 0):
        return level
    level = torch.nn.functional.pad(level, (0, 0, 0, 0, 0, 1))
    level[-1, 0] = constant
    return level
