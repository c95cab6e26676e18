"""The processes that ``torchrun`` starts for one training, and what they tell each other."""

import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from qattn.training.ranks.errors import RankLost, Told, is_lost

T = TypeVar("T")

PATIENCE = timedelta(hours=2)
"""How long a process waits for another one, whose reads may stand in the queue of a QPU."""

ENDING = timedelta(seconds=10)
"""How long a process waits for the first one to say how the run ended."""


class Ranks:
    """The processes of a training; as it is made, the only one.

    Everything here but ``rank`` and the like is collective: all processes call it, in the same
    order. With one process nothing is sent anywhere.

    Args:
        rank: Number of this process, from 0 on.
        size: Number of processes.
        local_rank: Number of this process among those of its machine.
        local_size: Number of processes of its machine.
        store: PyTorch's store of keys and values, where no collective call is possible.
    """

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        local_rank: int = 0,
        local_size: int = 1,
        store: Any = None,
    ) -> None:
        self.rank, self.size = rank, size
        self.local_rank, self.local_size = local_rank, local_size
        self._store = store

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, on every rank; tensors in them must be on the CPU."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with connected():
            dist.all_gather_object(values, value)
        return values

    def collect(self, value: T) -> list[T]:
        """The values of all ranks on rank 0, and nothing on the others."""
        if self.size == 1:
            return [value]
        values: list[Any] | None = [None] * self.size if self.rank == 0 else None
        with connected():
            dist.gather_object(value, values)
        return values or []

    def any(self, *flags: bool) -> list[bool]:
        """Whether each flag is raised on some rank."""
        if self.size == 1:
            return list(flags)
        raised = torch.tensor(flags, dtype=torch.int32)
        with connected():
            dist.all_reduce(raised, op=dist.ReduceOp.MAX)
        return [bool(flag) for flag in raised]

    def union(self, items: list[int]) -> list[int]:
        """The numbers that some rank has, in order."""
        return sorted({item for each in self.gather(items) for item in each})

    def mean(self, value: Tensor) -> Tensor:
        """Mean of a tensor over the ranks."""
        if self.size == 1:
            return value
        total = value.clone()
        with connected():
            dist.all_reduce(total)
        return total / self.size

    def first(self, function: Callable[..., T], *args: Any) -> T:
        """What a function returns on rank 0, on every rank; its errors too."""
        value: list[Any] = [None]
        with self.together():
            if self.rank == 0:
                value = [function(*args)]
        if self.size > 1:
            with connected():
                dist.broadcast_object_list(value, src=0)
        result: T = value[0]
        return result

    def figures(self, own: dict[str, float]) -> dict[str, float]:
        """Figures of all ranks, each from those that have it: seconds in sum, others as a mean."""
        if self.size == 1:
            return own
        found: dict[str, list[float]] = {}
        for each in self.gather(own):
            for name, value in each.items():
                found.setdefault(name, []).append(value)
        return {
            name: math.fsum(values) / (1 if "seconds" in name else len(values))
            for name, values in found.items()
        }

    @contextmanager
    def together(self) -> Iterator[None]:
        """What fails on one rank fails on all: on the others with an error that says the same.

        The block may do what it likes, but for collective calls.
        """
        if self.size == 1:
            yield
            return
        error: Exception | None = None
        try:
            yield
        except Exception as raised:
            error = raised
        if not self.any(error is not None)[0]:
            return
        told = self.gather(None if error is None else Told.of(error))
        failed = [rank for rank, each in enumerate(told) if each is not None]
        if error is not None and failed[0] == self.rank:
            raise error
        first = told[failed[0]]
        assert first is not None
        raise first.again("" if len(failed) == self.size else f"Rank {failed[0]}: ") from error

    def device(self, name: str) -> torch.device:
        """The device of this rank: of "cuda", the GPU of its number on its machine.

        Raises:
            ValueError: There are several ranks and the name is that of one GPU, or their machine
                has fewer GPUs.
        """
        device = torch.device(name)
        if self.size == 1 or device.type != "cuda":
            return device
        if device.index is not None:
            raise ValueError(
                f"Argument `device` must be 'cuda' in several processes, each of which takes the "
                f"GPU of its number, but is {name!r}."
            )
        if torch.cuda.device_count() < self.local_size:
            raise ValueError(
                f"Argument `device` must be 'cpu' where there are more processes than GPUs, but is "
                f"{name!r} for {self.local_size} processes and {torch.cuda.device_count()} GPUs: "
                f"start fewer (--nproc-per-node)."
            )
        own = torch.device("cuda", self.local_rank)
        torch.cuda.set_device(own)
        return own

    def stream(self, seed: int) -> int:
        """A seed of this rank's own: that of rank 0 is `seed`."""
        if self.rank == 0:
            return seed
        return int(torch.randint(2**62, (), generator=_generator(seed, self.rank)))

    @contextmanager
    def said_by_rank_0(self) -> Iterator[None]:
        """An error of all ranks is said by rank 0 alone: the others leave in silence.

        A rank whose error rank 0 does not share says it itself, a moment later. Of notices it says
        none, of warnings all.
        """
        if self.rank:
            logging.getLogger("qattn").setLevel(logging.WARNING)
        try:
            yield
        except Exception as error:
            if self.rank == 0 and self._store is not None:
                self._store.set("ended", str(error))
            if self.rank == 0 or not self._has_ended():
                raise
            raise SystemExit(0) from error

    def _has_ended(self) -> bool:
        """Whether rank 0 ends with an error too, soon."""
        try:
            self._store.wait(["ended"], ENDING)
        except Exception:  # it goes on, or is gone, or there is no store
            return False
        return True


def _generator(seed: int, rank: int) -> torch.Generator:
    """A generator for each pair of numbers, and not for their sum alone."""
    first = torch.Generator().manual_seed(seed)
    own = torch.randint(2**62, (rank,), generator=first)[-1]
    return torch.Generator().manual_seed(int(own))


@contextmanager
def connected() -> Iterator[None]:
    """Errors of a connection to another process become :class:`RankLost`."""
    try:
        yield
    except RuntimeError as error:
        if not is_lost(error):
            raise
        raise RankLost("Another process of the training is gone.") from error


@contextmanager
def joined() -> Iterator[Ranks]:
    """The processes among which ``torchrun`` started this one; without it, this one alone.

    They talk by gloo, and between GPUs by NCCL. A group that is there already is used as it is.
    """
    size = int(os.environ.get("WORLD_SIZE", "1")) if dist.is_torchelastic_launched() else 1
    ours = not (dist.is_available() and dist.is_initialized())
    if ours and size == 1:
        yield Ranks()
        return
    store = None
    if ours:
        # Its functions keep the group that there is as they are imported, and with it threads that
        # would be killed, noisily, when Python ends: so before there is one.
        import_module("torch.distributed.nn.functional")
        store, rank, size = next(rendezvous("env://", timeout=PATIENCE))
        both = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(both, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), local_rank, local_size, store)
    finally:
        if ours:
            dist.destroy_process_group()
