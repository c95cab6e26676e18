"""How many CPU threads a run uses, unless its user says."""

import os

from qattn.exact.memory import required_bytes
from qattn.training.config import TrainConfig

SMALL_TENSOR = 1 << 20
"""Numbers of the largest tensor up to which more threads than one do not pay.

A second thread gains a quarter at this size on idle cores, and costs two orders of magnitude where
a neighbour has the other core: PyTorch's threads meet at a barrier after every operation, and spin
there until the last one was scheduled.
"""


def choose_threads(config: TrainConfig) -> int:
    """One thread for models whose tensors are small, all cores of this process for others."""
    tokens = config.ensemble * config.batch_size * config.context
    largest = tokens * 4 * config.width
    if config.attention in ("boltzmann", "couplings"):
        groups = config.ensemble * config.heads
        queries = tokens if config.attention == "boltzmann" else config.context
        largest = max(largest, required_bytes(groups, queries, config.context, itemsize=1))
    return 1 if largest <= SMALL_TENSOR else _cores()


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
