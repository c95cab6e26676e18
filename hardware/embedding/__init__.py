"""Problems on a working graph: packings of cliques, chains, placement, and the device's limits."""

from qattn.hardware.embedding.embed import Embedding
from qattn.hardware.embedding.find_packing import cached_packing, pack_cliques
from qattn.hardware.embedding.packing import Packing
from qattn.hardware.embedding.packing_files import packing_file
from qattn.hardware.embedding.working_graph import WorkingGraph

__all__ = [
    "Embedding",
    "Packing",
    "WorkingGraph",
    "cached_packing",
    "pack_cliques",
    "packing_file",
]
