"""The exact engine for :class:`qattn.couplings.Banded`: transfer matrices, at any length."""

from qattn.exact.chain.engine import backward, forward
from qattn.exact.chain.reads import draw

__all__ = ["backward", "draw", "forward"]
