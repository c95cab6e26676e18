"""What a process does of a training: some members of an ensemble, or a part of every batch."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from qattn.training.config import TrainConfig
from qattn.training.ranks.processes import Ranks, connected
from qattn.training.ranks.states import joined, on_cpu, own_chances, own_members

T = TypeVar("T")


class Share:
    """Members of an ensemble in consecutive slices, one for each rank.

    They share nothing, so that nothing is sent while a step is made. One process has all members.

    Attributes:
        members: Numbers of the members that this rank trains.
    """

    def __init__(self, ranks: Ranks, ensemble: int) -> None:
        self.ranks, self.ensemble = ranks, ensemble
        each, more = divmod(ensemble, ranks.size)
        start = ranks.rank * each + min(ranks.rank, more)
        self.members = range(start, start + each + (ranks.rank < more))

    def rows(self, batch: Tensor) -> Tensor:
        """The sequences that are this rank's in batches of its members, (members, batch, ...)."""
        return batch

    def parallel(self, model: nn.Module, loss: Callable[[nn.Module], Tensor]) -> nn.Module:
        """The model as a training step calls it.

        Args:
            model: The model.
            loss: A loss for which nothing is sampled, and all takes part that does in a step.
        """
        return model

    def mean(self, value: Tensor) -> Tensor:
        """Mean over the ranks that train the same member."""
        return value

    def compute(self, function: Callable[[], T]) -> T:
        """What a function says of this rank's members, asked once for each member."""
        with self.ranks.together():
            return function()

    def whole(self, values: Any) -> Any:
        """The list or tensor (members, ...) of all members, from that of each rank's."""
        if self.ranks.size == 1:
            return values
        parts = self.ranks.gather(values)
        if isinstance(values, Tensor):
            return torch.cat(parts)
        return [value for part in parts for value in part]

    def own(self, values: Tensor) -> Tensor:
        """This rank's members of a tensor of all."""
        return values[self.members.start : self.members.stop]

    def whole_state(self, state: dict[str, Any]) -> dict[str, Any]:
        """The state of the whole run, from that of each rank's learner, on rank 0; else nothing."""
        if self.ranks.size == 1:
            return state
        return joined(self.ranks.collect(on_cpu(state)), members=True)

    def own_state(self, state: dict[str, Any]) -> dict[str, Any]:
        """The state of this rank's learner, from that of the whole run."""
        return own_members(own_chances(state, self.ranks.rank), self.members, self.ensemble)


class BatchShare(Share):
    """An equal part of every batch of one model: data parallel training.

    The gradients of the parts are averaged by PyTorch's DistributedDataParallel.
    """

    def __init__(self, ranks: Ranks) -> None:
        super().__init__(ranks, 1)
        self.members = range(1)

    def rows(self, batch: Tensor) -> Tensor:
        """The sequences of this rank, in consecutive slices of the batch."""
        return batch.chunk(self.ranks.size, 1)[self.ranks.rank]

    def parallel(self, model: nn.Module, loss: Callable[[nn.Module], Tensor]) -> nn.Module:
        """The model whose gradients are averaged over the ranks."""
        learned = [value for value in model.parameters() if value.requires_grad]
        used = torch.autograd.grad(loss(model), learned, allow_unused=True)
        all_used = all(gradient is not None for gradient in used)
        with connected():
            averaged = DistributedDataParallel(model, find_unused_parameters=not all_used)
            # PyTorch sorts the gradients into other buckets after the first step. As the order of
            # sums depends on them, a run that is resumed must not begin with the first buckets.
            for _ in range(2 if all_used else 0):
                loss(averaged).backward()
        model.zero_grad(set_to_none=True)
        return averaged

    def mean(self, value: Tensor) -> Tensor:
        """Mean over the ranks, whose parts are of one size."""
        return self.ranks.mean(value)

    def compute(self, function: Callable[[], T]) -> T:
        """What a function says of the one model, on rank 0."""
        return self.ranks.first(function)

    def whole(self, values: Any) -> Any:
        """The values, which are the same on every rank."""
        return values

    def whole_state(self, state: dict[str, Any]) -> dict[str, Any]:
        """The state of rank 0, with the random numbers of the others."""
        return joined(self.ranks.collect(on_cpu(state)), members=False)

    def own_state(self, state: dict[str, Any]) -> dict[str, Any]:
        """The state of the run, with the random numbers of this rank."""
        return own_chances(state, self.ranks.rank)


def share_of(config: TrainConfig, ranks: Ranks) -> Share:
    """What this rank does of a run: ensembles are divided by members, one model by its batches.

    Raises:
        ValueError: There are fewer members than ranks, or a batch cannot be divided equally.
    """
    if ranks.size > 1 and config.ensemble == 1:
        if config.batch_size % ranks.size:
            raise ValueError(
                f"Argument `batch_size` must be a multiple of the {ranks.size} processes, which "
                f"take equal parts of it, but is {config.batch_size}."
            )
        return BatchShare(ranks)
    if config.ensemble < ranks.size:
        raise ValueError(
            f"Argument `ensemble` must be at least {ranks.size}, a member for each process, but is "
            f"{config.ensemble}: start fewer processes (--nproc-per-node)."
        )
    return Share(ranks, config.ensemble)
