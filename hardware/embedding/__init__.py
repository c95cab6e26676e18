"""Problems on a working graph: packings of slots, chains, placement, and the device's limits."""

from qattn.hardware.embedding.embed import Embedding
from qattn.hardware.embedding.find_packing import (
    best_packing,
    cached_packing,
    pack_cliques,
    pack_slots,
)
from qattn.hardware.embedding.packing import Packing
from qattn.hardware.embedding.packing_files import packing_file
from qattn.hardware.embedding.pattern import Pattern
from qattn.hardware.embedding.working_graph import WorkingGraph

__all__ = [
    "Embedding",
    "Packing",
    "Pattern",
    "WorkingGraph",
    "best_packing",
    "cached_packing",
    "pack_cliques",
    "pack_slots",
    "packing_file",
]
