"""Many disjoint slots: shapes, where they fit, and which of those places are taken."""

from qattn.hardware.embedding.search.candidates import find_candidates
from qattn.hardware.embedding.search.disjoint_sets import SetPacking
from qattn.hardware.embedding.search.shapes import find_embedding, find_shapes

__all__ = ["SetPacking", "find_candidates", "find_embedding", "find_shapes"]
