"""Sets of Ising problems to judge samplers on, also by name."""

from qattn.problems.by_name import SETS, named, with_strength
from qattn.problems.files import from_bqms, read_bqms
from qattn.problems.graphs import edwards_anderson, qpu_native, random_regular
from qattn.problems.standard import (
    banded,
    ferromagnet,
    frustrated_ring,
    planted,
    planted_states,
    spin_glass,
    synthetic,
)

__all__ = [
    "SETS",
    "banded",
    "edwards_anderson",
    "ferromagnet",
    "from_bqms",
    "frustrated_ring",
    "named",
    "planted",
    "planted_states",
    "qpu_native",
    "random_regular",
    "read_bqms",
    "spin_glass",
    "synthetic",
    "with_strength",
]
