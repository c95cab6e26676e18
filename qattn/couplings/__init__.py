r"""Structures of J: couplings that are known by fewer numbers than a matrix has.

A dense J is a tensor. A structure takes its place in :class:`qattn.IsingBatch`, in
:func:`qattn.boltzmann_attention` and in the layers, and :mod:`qattn.exact` solves it at lengths at
which no dense J can be enumerated:

==================== ============================================ =============================
structure            interaction of a state                       exact engine
==================== ============================================ =============================
tensor               Σ_{j<k} J_jk s_j s_k                         enumeration, n ≤ about 24
:class:`Banded`      J_{j,j-d} for distances d ≤ w                transfer matrices, any n
:class:`LowRank`     J_jk = ± U_j U_k                             quadrature, any n
:class:`Block`       dense J within blocks of m positions         enumeration of each block
:class:`Cardinality` any function of the number of spins up       sums over counts, any n
==================== ============================================ =============================
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from qattn.couplings.banded import Banded
from qattn.couplings.base import Couplings, interaction
from qattn.couplings.block import Block
from qattn.couplings.cardinality import Cardinality
from qattn.couplings.low_rank import LowRank

__all__ = ["Banded", "Block", "Cardinality", "Couplings", "LowRank", "interaction"]

Parts = tuple[Tensor, str, tuple[int, ...]]
"""A tensor, the kind of a structure, or "" for a dense J, and the structure's options."""

KINDS: dict[str, type[Couplings]] = {
    structure.kind: structure for structure in (Banded, LowRank, Block, Cardinality)
}
"""The structures by the name under which their engines are registered."""


def taken_apart(J: Tensor | Couplings) -> Parts:
    """J as a tensor, and the rest: for what autograd and vmap must see."""
    return (J, "", ()) if isinstance(J, Tensor) else (J.values, J.kind, J.options)


def put_together(values: Tensor, kind: str, options: Sequence[int]) -> Tensor | Couplings:
    """J from what :func:`taken_apart` made of it."""
    return KINDS[kind](values, *options) if kind else values  # type: ignore[call-arg]


def joined(J: Sequence[Tensor | Couplings]) -> Tensor | Couplings:
    """The groups of several, all dense or all of one structure, one after the other."""
    _, kind, options = taken_apart(J[0])
    return put_together(torch.cat([taken_apart(part)[0] for part in J]), kind, options)
