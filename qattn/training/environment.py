"""What the bits of a run depend on besides its settings: threads, and versions of what computes."""

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from qattn._version import __version__
from qattn.training.config import TrainConfig

SMALL_TENSOR = 1 << 22
"""Numbers of the largest tensor up to which one thread is chosen.

PyTorch's threads meet at a barrier after every operation, and where a neighbour has a core they
wait for the scheduler there, a few milliseconds each time. Below this size an operation takes no
longer than that: a second thread then gains a quarter on idle cores, and costs up to two orders of
magnitude on busy ones.
"""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3): how much free memory is kept, and what is too large to be kept."""


def choose_threads(config: TrainConfig, processes: int = 1) -> int:
    """One thread for models whose tensors are small, all cores of this process for others.

    Args:
        config: The settings.
        processes: Processes of this machine among which members or batches, and cores, are divided.
    """
    tokens = config.ensemble * config.batch_size * config.context // processes
    largest = tokens * (config.ffn_width or 4 * config.width)  # inside the feed-forward network
    if config.structure is not None:
        largest = max(largest, tokens * config.heads * config.context)  # the fields
    if (config.sampler, config.structure) == ("exact", "dense") and config.interaction != "field":
        queries = config.context if config.attention == "couplings" else tokens
        half = 1 << (config.context + 1) // 2  # states of half the spins, for each query
        largest = max(largest, config.heads * max(1 << config.context, queries * half))
    return 1 if largest <= SMALL_TENSOR else max(1, cores() // processes)


@contextmanager
def using_threads(threads: int) -> Iterator[None]:
    """PyTorch computes with that number of threads; afterwards with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_freed_memory() -> None:
    """Let the C library keep what tensors free for the next ones, as far as it is glibc.

    Otherwise it gives large pieces back to the system and asks for them again at every step, with a
    page fault for each 4 kB. Dask's workers, which are started with MALLOC_TRIM_THRESHOLD_=65536,
    give back so much that a training step takes twice as long.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_MMAP_THRESHOLD, 2**25)


def environment(device: torch.device, processes: int = 1) -> dict[str, Any]:
    """Threads in use, processes where there are several, and versions, as a checkpoint keeps them.

    PyTorch rounds otherwise with another number of threads, another version, another set of vector
    instructions (AVX2, AVX512), or on another GPU.
    """
    found = {
        "threads": torch.get_num_threads(),
        "qattn": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "CPU capability": torch.backends.cpu.get_cpu_capability(),
    }
    if device.type == "cuda":
        found |= {"CUDA": torch.version.cuda, "GPU": torch.cuda.get_device_name(device)}
    if processes > 1:
        found["processes"] = processes
    numbers = ("threads", "processes")
    return {name: value if name in numbers else str(value) for name, value in found.items()}


def changes(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What is not as it was, such as "2 threads instead of 1"; empty if all is."""
    return ", ".join(
        f"{value} threads instead of {before[name]}"
        if name == "threads"
        else f"{name} {value} instead of {before[name]}"
        for name, value in now.items()
        if before.get(name, value) != value
    )


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
