"""How many CPU threads a run uses, unless its user says."""

import os

from qattn.training.config import TrainConfig

SMALL_TENSOR = 1 << 22
"""Numbers of the largest tensor up to which one thread is chosen.

PyTorch's threads meet at a barrier after every operation, and where a neighbour has a core they
wait for the scheduler there, a few milliseconds each time. Below this size an operation takes no
longer than that: a second thread then gains a quarter on idle cores, and costs up to two orders of
magnitude on busy ones.
"""


def choose_threads(config: TrainConfig) -> int:
    """One thread for models whose tensors are small, all cores of this process for others."""
    tokens = config.ensemble * config.batch_size * config.context
    largest = tokens * 4 * config.width  # inside the feed-forward network
    if config.sampler == "exact" and config.attention in ("boltzmann", "couplings"):
        queries = tokens if config.attention == "boltzmann" else config.context
        half = 1 << (config.context + 1) // 2  # states of half the spins, for each query
        largest = max(largest, config.heads * max(1 << config.context, queries * half))
    return 1 if largest <= SMALL_TENSOR else _cores()


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
