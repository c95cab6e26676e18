"""What a call of ``sample`` requests: models, a number of reads, a seed."""

from dataclasses import dataclass
from functools import cached_property

import torch

from qattn.hardware.calls.journal import Arrays, request_digest
from qattn.ising.batch import IsingBatch


@dataclass(frozen=True, eq=False)
class Request:
    """The models of a call and how many reads of them are requested.

    Args:
        batch: The models at β = 1, float64, on the CPU.
        num_reads: Reads per query.
        seed: Seed of gauges and of ties.
    """

    batch: IsingBatch
    num_reads: int
    seed: int

    @classmethod
    def of(cls, batch: IsingBatch, num_reads: int, seed: int) -> "Request":
        """The request for reads of any batch."""
        h, J = (x.detach().to("cpu", torch.float64) for x in batch.scaled())
        return cls(IsingBatch(h, J, batch.lengths, validate=False), num_reads, seed % (1 << 63))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the whole request."""
        arrays = self.arrays
        return request_digest(
            arrays["h"], arrays["J"], arrays["lengths"], self.num_reads, self.seed
        )

    @property
    def arrays(self) -> Arrays:
        """The models as arrays for the journal."""
        batch = self.batch
        return {"h": batch.h.numpy(), "J": batch.J.numpy(), "lengths": batch.num_active}
