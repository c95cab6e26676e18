r"""Structures of J: couplings that are known by fewer numbers than a matrix has.

A dense J is a tensor. A structure takes its place in :class:`qattn.IsingBatch`, in
:func:`qattn.boltzmann_attention` and in the layers, and :mod:`qattn.exact` solves it at lengths at
which no dense J can be enumerated:

=================== =============================================== ==============================
structure           interaction of a state                          exact engine
=================== =============================================== ==============================
tensor              Σ_{j<k} J_jk s_j s_k                            enumeration, n ≤ about 24
:class:`Banded`     J_{j,j-d} for distances d ≤ w                   transfer matrices, any n
:class:`LowRank`    J_jk = ± U_j U_k                                quadrature, any n
:class:`Block`      dense J within blocks of m positions            enumeration of each block
:class:`Cardinality` any function of the number of attended spins   recursion over counts, any n
=================== =============================================== ==============================
"""

from qattn.couplings.banded import Banded
from qattn.couplings.base import Couplings, interaction
from qattn.couplings.block import Block
from qattn.couplings.cardinality import Cardinality
from qattn.couplings.low_rank import LowRank

__all__ = ["Banded", "Block", "Cardinality", "Couplings", "LowRank", "interaction"]

KINDS: dict[str, type[Couplings]] = {
    structure.kind: structure for structure in (Banded, LowRank, Block, Cardinality)
}
"""The structures by the name under which their engines are registered."""
