"""Ising models in the order in which their spins are drawn."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int8
from torch import Tensor

from qattn.ising.batch import IsingBatch
from qattn.simulators.autoregressive.plan import Plan


class Models(NamedTuple):
    r"""Models of a batch with β inside, spins in the order of drawing and before queries.

    Chains, reads and states of all queries of a group are *columns*: those of one query side by
    side, query after query, shape (groups, spins, queries · reads).

    Attributes:
        h: Fields βh, 0 at absent spins.
        J: Couplings βJ.
        active: Where a query has a spin; None means everywhere. An absent spin is drawn like the
            others, and does not count: it has no field and must have no influence.
        beta: β of each group, for parameters in units of J.
    """

    h: Float[Tensor, "g n q"]
    J: Float[Tensor, "g n n"]
    active: Bool[Tensor, "g n q"] | None
    beta: Float[Tensor, " g"]

    @classmethod
    def arranged(
        cls, batch: IsingBatch, plan: Plan, dtype: torch.dtype = torch.float32
    ) -> "Models":
        """The models of a batch, in a plan's order.

        Raises:
            ValueError: The batch has another number of spins than the plan.
        """
        if batch.num_spins != plan.num_spins:
            raise ValueError(
                f"Argument `batch` must have {plan.num_spins} spins, as the sampler has, but has "
                f"{batch.num_spins}."
            )
        h, J = (x.detach().to(dtype) for x in batch.scaled())
        order = plan.index.to(h.device)
        h, active = h.mT[:, order], None
        if batch.lengths is not None:
            active = batch.active.expand(batch.h.shape).mT[:, order]
            h = h * active
        beta = torch.as_tensor(batch.beta, dtype=dtype, device=h.device).detach()
        return cls(h, J[:, order][:, :, order], active, beta.expand(batch.num_groups))

    @property
    def num_groups(self) -> int:
        """Number of groups."""
        return self.h.shape[0]

    @property
    def num_spins(self) -> int:
        """Number of spins."""
        return self.h.shape[1]

    @property
    def num_queries(self) -> int:
        """Number of queries of a group."""
        return self.h.shape[2]

    def to_columns(self, x: Tensor, num_reads: int) -> Tensor:
        """What each query has, once for each of its reads: (g, n, q) to (g, n, q · reads)."""
        return x.repeat_interleave(num_reads, -1)

    def energies(self, spins: Tensor) -> Float[Tensor, "g columns"]:
        """βE of columns in float64, for reads of all queries; absent spins must be 0."""
        s = spins.double()
        reads = spins.shape[2] // self.num_queries
        fields = self.to_columns(self.h.double(), reads) + (self.J.double() @ s) / 2
        return -(fields * s).sum(1)


def as_reads(columns: Tensor, plan: Plan, num_queries: int) -> Int8[Tensor, "g q reads n"]:
    """Columns of spins in the order of drawing as the reads of a batch."""
    spins: Tensor = columns[:, plan.inverse.to(columns.device)].unflatten(2, (num_queries, -1))
    return spins.permute(0, 2, 3, 1).to(torch.int8).contiguous()


def as_columns(spins: Tensor, plan: Plan, dtype: torch.dtype) -> Float[Tensor, "g n columns"]:
    """The reads of a batch, (groups, queries, reads, spins), as columns in the order of drawing."""
    columns = spins.to(dtype).permute(0, 3, 1, 2).flatten(2)
    return columns[:, plan.index.to(spins.device)].contiguous()
