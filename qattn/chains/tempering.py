r"""Parallel tempering: replicas at a ladder of temperatures that exchange their configurations.

Each *set* has one replica at every inverse temperature 0 = β_1 < … < β_K = 1 (in units of the
target's). After a sweep neighbours in temperature swap with probability

.. math:: \min\big(1, e^{(\beta_{k+1} - \beta_k)(E_{k+1} - E_k)}\big),

which leaves the joint distribution as it is (Hukushima and Nemoto, J. Phys. Soc. Japan 65, 1604
(1996)). Pairs of even and of odd k take turns, so that replicas travel rather than diffuse, and the
ladder is spaced such that all pairs reject equally often (Syed, Bouchard-Côté, Deligiannidis and
Doucet, J. R. Stat. Soc. B 84, 321 (2022)). At β = 0 a sweep forgets everything: each replica that
comes down from there to β = 1 brings a configuration that owes nothing to the start, and a
*round trip*, from β = 0 to β = 1 and back, is counted when it is complete.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor

from qattn.chains.neighbours import sweepable
from qattn.chains.sweeps import chunks, sweeper
from qattn.ising.batch import IsingBatch

REJECTION = 0.5
"""Share of swaps that the ladder is spaced to reject: about the best (Syed et al., section 5)."""

TEMPERATURES = (4, 64)
"""Least and largest number of temperatures."""

FIRST_TEMPERATURES = 8
"""Temperatures before the first adaptation, evenly spaced."""

KEPT = (
    *("betas", "round_trips", "_replicas", "_replica_at", "_slot", "_came"),
    *("_accepted", "_proposed", "_sweeps"),
)
"""What changes as replicas are swept."""

Observe = Callable[[slice, slice, Tensor, Tensor, Tensor, Tensor], None]
"""What is called after each sweep of a chunk, with its slices of groups and queries; energies by
temperature, shape (groups, queries, temperatures, sets), at β = 1; spins and local fields of all
replicas, shape (groups, spins, queries · replicas · sets), in an order of spins of their own; and
the replica at each temperature, shape (groups, queries, temperatures, sets)."""


class Moves(ABC):
    """Moves of replicas besides sweeps; they must leave each replica's distribution as it is.

    Attributes:
        every: Sweeps from one call to the next.
    """

    every: int

    @abstractmethod
    def __call__(
        self,
        g: slice,
        q: slice,
        betas: Float[Tensor, "g q temperatures"],
        spins: Int8[Tensor, "g q temperatures sets n"],
        generator: torch.Generator,
    ) -> Int8[Tensor, "g q temperatures sets n"]:
        """Where the replicas are afterwards.

        Args:
            g: Which groups of the batch.
            q: Which of their queries.
            betas: The ladder of each query.
            spins: Configurations by temperature; 0 at absent spins.
            generator: Source of randomness.
        """


class Tempering:
    """Parallel tempering of every query of a batch, many independent sets side by side.

    Args:
        batch: The models.
        starts: Where all replicas of a set start.
        generator: Source of all randomness, on the device of the batch.
        betas: Ladder of each query, from 0 to 1; None means an even one, to be adapted.
        moves: What else moves replicas; None means sweeps alone.

    Attributes:
        betas: The ladder of each query.
        round_trips: Round trips of each set since the ladder was last changed.
    """

    def __init__(
        self,
        batch: IsingBatch,
        starts: Int8[Tensor, "g q sets n"],
        generator: torch.Generator,
        betas: Float[Tensor, "g q temperatures"] | None = None,
        moves: Moves | None = None,
    ) -> None:
        models = sweepable(batch)
        self.h, self.J = models.h.mT, models.J
        G, n, Q = self.h.shape
        self.active = None if batch.lengths is None else batch.active.expand(G, Q, n).mT
        self.generator, self.moves = generator, moves
        if betas is None:
            betas = torch.linspace(0, 1, FIRST_TEMPERATURES).expand(G, Q, -1)
        if self.active is not None:
            starts = starts * self.active.mT.unsqueeze(2).to(torch.int8)
        # Spins of replica c of set r of query q: (groups, spins, queries, replicas, sets).
        replicas = starts.permute(0, 3, 1, 2).unsqueeze(3).float()
        self._replicas = replicas.repeat(1, 1, 1, betas.shape[2], 1)
        self._begin(betas.to(self._replicas))

    def _begin(self, betas: Float[Tensor, "g q k"]) -> None:
        """Put replica k at temperature k of a ladder, and count from zero."""
        self.betas = betas
        G, _, Q, K, R = self._replicas.shape
        device = self.h.device
        self._replica_at = torch.arange(K, device=device)[:, None].repeat(G, Q, 1, R)
        self._slot = self._replica_at.clone()
        # 1 after a replica's visit of β = 0, 2 after one of β = 1 that came from there.
        self._came = torch.zeros(G, Q, K, R, dtype=torch.int8, device=device)
        self.round_trips = torch.zeros(G, Q, R, device=device)
        self._accepted = torch.zeros(G, Q, K - 1, device=device)
        self._proposed = torch.zeros(K - 1, device=device)
        self._sweeps = 0

    @property
    def num_temperatures(self) -> int:
        """Number of temperatures."""
        return self.betas.shape[2]

    @property
    def rejections(self) -> Float[Tensor, "g q pairs"]:
        """Share of the swaps of each pair of neighbours that were rejected."""
        return 1 - self._accepted / self._proposed.clamp_min(1)

    @property
    def spins(self) -> Int8[Tensor, "g q sets n"]:
        """Configurations at β = 1, one of each set; 0 at absent spins."""
        at_target = self._replica_at[:, None, :, -1:].expand(-1, self.h.shape[1], -1, -1, -1)
        s = self._replicas.gather(3, at_target).squeeze(3)
        return s.permute(0, 2, 3, 1).to(torch.int8).contiguous()

    def state_dict(self) -> dict[str, Any]:
        """Replicas, ladder and counts, all that the next sweeps depend on but the generator."""
        return {name: getattr(self, name) for name in KEPT}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        vars(self).update(state)

    def adapt(self, num_sweeps: int) -> None:
        """Sweep, then space the ladder anew by the rejections that were seen.

        The rejections between β_1 and β_k add up to about the same barrier however the ladder is
        spaced; its new points cut the barrier in equal parts. Their number is what the query with
        the highest barrier needs. A replica at a new β continues from the nearest old one.
        """
        self.run(num_sweeps)
        K, R = self._replica_at.shape[2:]
        barrier = torch.nn.functional.pad(self.rejections.clamp_min(1e-3).cumsum(-1), (1, 0))
        needed = 1 + math.ceil(float(barrier[..., -1].max()) / REJECTION)
        number = min(max(needed, TEMPERATURES[0]), TEMPERATURES[1])
        # Linear interpolation of β as a function of the barrier.
        targets = torch.linspace(0, 1, number, device=self.h.device) * barrier[..., -1:]
        right = torch.searchsorted(barrier, targets.contiguous()).clamp(1, K - 1)
        low, high = (barrier.gather(-1, i) for i in (right - 1, right))
        share = ((targets - low) / (high - low)).clamp(0, 1)
        betas = torch.lerp(self.betas.gather(-1, right - 1), self.betas.gather(-1, right), share)
        betas[..., 0], betas[..., -1] = 0.0, 1.0
        old = torch.where(share < 0.5, right - 1, right)
        chosen = self._replica_at.gather(2, old.unsqueeze(-1).expand(-1, -1, -1, R))
        chosen = chosen.unsqueeze(1).expand(-1, self.h.shape[1], -1, -1, -1)
        self._replicas = self._replicas.gather(3, chosen)
        self._begin(betas)

    def run(self, num_sweeps: int, observe: Observe | None = None) -> None:
        """Sweep over all replicas `num_sweeps` times, with swaps after each sweep."""
        G, n, Q, K, R = self._replicas.shape
        for g, q in chunks(G, Q, n * K * R):
            self._run(g, q, num_sweeps, observe)
        for k in range(2):
            self._proposed[k::2] += R * ((num_sweeps + (self._sweeps + k + 1) % 2) // 2)
        self._sweeps += num_sweeps

    def _run(self, g: slice, q: slice, num_sweeps: int, observe: Observe | None) -> None:
        """The same for a chunk."""
        K, R = self._replicas.shape[3:]
        h = self.h[g, :, q].repeat_interleave(K * R, -1)
        active = None if self.active is None else self.active[g, :, q]
        active = None if active is None else active.repeat_interleave(K * R, -1)
        sweeps = sweeper(h, self.J[g], active)
        s = sweeps.arrange(self._replicas[g, :, q].flatten(2))
        betas = self.betas[g, q]
        temperatures = 1 / betas.clamp_min(1e-18)
        slot, replica_at, came = self._slot[g, q], self._replica_at[g, q], self._came[g, q]
        for number in range(num_sweeps):
            of_replica = temperatures.unsqueeze(-1).expand(slot.shape).gather(2, slot)
            sweeps.sweep(s, self.generator, of_replica.flatten(1).unsqueeze(1))
            if self.moves is not None and (self._sweeps + number) % self.moves.every == 0:
                s = sweeps.arrange(self._moved(g, q, sweeps.restored(s), betas, replica_at))
            b = sweeps.local_fields(s)
            # E = -Σ h s - Σ_{j<k} J s s.
            energies = ((b + sweeps.h) * s).sum(1).mul_(-0.5)
            energies = energies.view(slot.shape).gather(2, replica_at)
            if observe is not None:
                observe(g, q, energies, s, b, replica_at)
            self._swap(g, q, energies, betas, (self._sweeps + number) % 2)
            slot.scatter_(2, replica_at, self._order.expand_as(slot))
            # The replicas that are at the ends now.
            hot, cold = replica_at[:, :, :1], replica_at[:, :, -1:]
            last = came.gather(2, hot)
            self.round_trips[g, q] += (last == 2).squeeze(2)
            came.scatter_(2, hot, 1)
            last = came.gather(2, cold)
            came.scatter_(2, cold, torch.where(last == 1, 2, last).to(came.dtype))
        self._replicas[g, :, q] = sweeps.restored(s).unflatten(2, (-1, K, R))

    def _moved(
        self, g: slice, q: slice, s: Tensor, betas: Tensor, replica_at: Tensor
    ) -> Float[Tensor, "g n columns"]:
        """Replicas in the models' order after their moves."""
        assert self.moves is not None
        replicas = s.unflatten(2, (-1, *self._replicas.shape[3:]))
        place = replica_at.unsqueeze(1).expand_as(replicas)
        by_temperature = replicas.gather(3, place).permute(0, 2, 3, 4, 1).to(torch.int8)
        moved = self.moves(g, q, betas, by_temperature, self.generator)
        moved = moved.permute(0, 4, 1, 2, 3).to(s.dtype)
        return torch.scatter(replicas, 3, place, moved).flatten(2)

    def _swap(self, g: slice, q: slice, energies: Tensor, betas: Tensor, parity: int) -> None:
        """Swap the replicas of every second pair of neighbouring temperatures."""
        K = betas.shape[2]
        pairs = slice(parity, K - 1, 2)
        step = (betas[..., 1:] - betas[..., :-1])[..., pairs].unsqueeze(-1)
        gain = step * (energies[:, :, 1:] - energies[:, :, :-1])[:, :, pairs]
        acceptance = gain.exp().clamp_max(1)
        u = torch.rand(gain.shape, generator=self.generator, device=gain.device, dtype=gain.dtype)
        accepted = u < acceptance
        self._accepted[g, q, pairs] += acceptance.sum(-1)
        replica_at = self._replica_at[g, q]
        lower, upper = replica_at[:, :, :-1][:, :, pairs], replica_at[:, :, 1:][:, :, pairs]
        new_lower = torch.where(accepted, upper, lower)
        upper.copy_(torch.where(accepted, lower, upper))
        lower.copy_(new_lower)

    @property
    def _order(self) -> Int[Tensor, "k 1"]:
        return torch.arange(self.num_temperatures, device=self.h.device)[:, None]
