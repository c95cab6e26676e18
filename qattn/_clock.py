"""How much time goes into sampling (exact moments included), on CPU and CUDA."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class SamplingClock:
    """Adds up the time spent inside ``with clock.running(device)``; CUDA time from events.

    A block within a block, also one of another thread (an emulated QPU's), is part of it: no time
    is counted twice.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._inside = False
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def running(self, device: torch.device) -> Iterator[None]:
        """Count the time of this block."""
        if self._inside:
            yield
            return
        self._inside = True
        try:
            with self._counted(device):
                yield
        finally:
            self._inside = False

    @contextmanager
    def _counted(self, device: torch.device) -> Iterator[None]:
        if device.type == "cuda":
            events = tuple(torch.cuda.Event(enable_timing=True) for _ in range(2))
            events[0].record()
            try:
                yield
            finally:
                events[1].record()
                self._events.append((events[0], events[1]))
        else:
            start = time.perf_counter()
            try:
                yield
            finally:
                self._seconds += time.perf_counter() - start

    def take(self) -> float:
        """Seconds since the last call; waits for the GPU if it was used."""
        if self._events:
            torch.cuda.synchronize()
            self._seconds += sum(start.elapsed_time(end) for start, end in self._events) / 1000
            self._events.clear()
        seconds, self._seconds = self._seconds, 0.0
        return seconds


sampling_clock = SamplingClock()
"""The clock that every backend runs while it computes moments or draws reads."""
