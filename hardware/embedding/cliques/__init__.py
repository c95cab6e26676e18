"""Many disjoint cliques: shapes, where they fit, and which of those places are taken."""

from qattn.hardware.embedding.cliques.candidates import find_candidates
from qattn.hardware.embedding.cliques.disjoint_sets import SetPacking
from qattn.hardware.embedding.cliques.shapes import find_clique, find_shapes

__all__ = ["SetPacking", "find_candidates", "find_clique", "find_shapes"]
