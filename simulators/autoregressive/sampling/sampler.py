"""Draws of q, with ln q, for batches whose groups have whatever graphs."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Int8
from torch import Tensor

from qattn.chains.sweeps import chunks
from qattn.ising.batch import IsingBatch
from qattn.simulators.autoregressive.build import build_net
from qattn.simulators.autoregressive.checkpoint import FittedSampler
from qattn.simulators.autoregressive.models import as_columns, as_reads
from qattn.simulators.autoregressive.net import AutoregressiveNet
from qattn.simulators.autoregressive.orders import DENSE
from qattn.simulators.autoregressive.settings import NetSettings

KEPT = 256
"""Nets that are kept; the oldest goes."""

FEW_QUERIES = 12
"""Queries of a group that speak for all of them."""


class Draws(NamedTuple):
    """States of each query with what q and p say of them, in float64.

    Attributes:
        spins: The states; 0 at absent spins.
        log_q: Their ln q.
        energies: Their βE: ln p + ln Z = -βE.
    """

    spins: Int8[Tensor, "g q reads n"]
    log_q: Float[Tensor, "g q reads"]
    energies: Float[Tensor, "g q reads"]

    @property
    def log_weights(self) -> Float[Tensor, "g q reads"]:
        """Ln w = -βE - ln q."""
        return -self.energies - self.log_q


class Sampler:
    """Autoregressive nets for the graphs of batches: made once a graph, kept, and drawn from.

    Args:
        settings: What the nets are made of.
        fitted: A fitted sampler in place of the settings.
    """

    def __init__(self, settings: NetSettings, fitted: FittedSampler | None = None) -> None:
        self.settings = settings if fitted is None else fitted.settings
        self.fitted = fitted
        self._nets: dict[tuple[NetSettings, torch.device, int, bytes], AutoregressiveNet] = {}

    def draw(
        self,
        batch: IsingBatch,
        num_reads: int,
        generator: torch.Generator,
        settings: Sequence[NetSettings] | None = None,
    ) -> Draws:
        """Draw reads of every query of a batch.

        Args:
            batch: The models; J is a tensor.
            num_reads: Reads of each query.
            generator: Source of randomness, on the device of the batch.
            settings: What the net of each group is made of; None means the sampler's own.
        """
        G, Q, n = batch.h.shape
        found = Draws(
            torch.zeros(G, Q, num_reads, n, dtype=torch.int8, device=batch.h.device),
            *torch.zeros(2, G, Q, num_reads, dtype=torch.float64, device=batch.h.device),
        )
        for groups, net in self.nets(batch, settings):
            for g, q in chunks(len(groups), Q, n * num_reads):
                part = selected(batch, groups[g], q)
                models = net.arranged(part)
                states, log_q = net.draw(models, num_reads, generator)
                shape = (part.num_queries, num_reads)
                spins = as_reads(states, net.plan, part.num_queries)
                found.spins[groups[g], q] = spins
                found.log_q[groups[g], q] = log_q.unflatten(1, shape)
                found.energies[groups[g], q] = models.energies(states).unflatten(1, shape)
        return found

    @torch.no_grad()
    def log_q(
        self,
        batch: IsingBatch,
        spins: Int8[Tensor, "g q reads n"],
        settings: Sequence[NetSettings] | None = None,
    ) -> Draws:
        """Given reads of a batch with their ln q and βE; see :meth:`draw`."""
        found = Draws(
            spins, *torch.zeros(2, *spins.shape[:3], dtype=torch.float64).to(spins.device)
        )
        for groups, net in self.nets(batch, settings):
            for g, q in chunks(len(groups), batch.num_queries, spins[0, 0].numel()):
                part = selected(batch, groups[g], q)
                models = net.arranged(part)
                states = as_columns(spins[groups[g], q], net.plan, models.h.dtype)
                shape = (part.num_queries, spins.shape[2])
                found.log_q[groups[g], q] = net.log_q(models, states).unflatten(1, shape)
                found.energies[groups[g], q] = models.energies(states).unflatten(1, shape)
        return found

    def nets(
        self, batch: IsingBatch, settings: Sequence[NetSettings] | None = None
    ) -> list[tuple[Int[Tensor, " groups"], AutoregressiveNet]]:
        """Nets, and the groups whose graph of couplings each has."""
        if self.fitted is not None:
            self.fitted.check(batch)
        coupled = (batch.matrix.detach() != 0).cpu()
        if self.settings.order == "auto":  # such graphs are drawn one spin after the other
            n = batch.num_spins
            dense = coupled.sum((1, 2)) > DENSE * n * (n - 1)
            coupled[dense] = ~torch.eye(n, dtype=torch.bool)
        found: dict[tuple[NetSettings, bytes], list[int]] = {}
        for g, graph in enumerate(coupled.numpy()):
            made_of = self.settings if settings is None else settings[g]
            found.setdefault((made_of, graph.tobytes()), []).append(g)
        return [
            (torch.tensor(groups), self._net(batch, coupled[groups[0]], groups, made_of, graph))
            for (made_of, graph), groups in found.items()
        ]

    def _net(
        self,
        batch: IsingBatch,
        coupled: Bool[Tensor, "n n"],
        groups: list[int],
        made_of: NetSettings,
        key: bytes,
    ) -> AutoregressiveNet:
        # What is drawn exactly depends on the number of queries: here on its next power of 2.
        queries = 1 << (len(groups) * batch.num_queries - 1).bit_length()
        place = made_of, batch.h.device, queries, key
        if place not in self._nets:
            if self.fitted is not None:
                fitted = replace(self.fitted, settings=made_of)
                net = fitted.net_for(selected(batch, torch.tensor(groups)))
            else:
                J = coupled.to(batch.h).unsqueeze(0)
                h = J.new_zeros(1, 1, 1).expand(1, queries, batch.num_spins)
                net = build_net(made_of, IsingBatch(h, J, validate=False)).to(batch.h.device)
            if len(self._nets) >= KEPT:
                self._nets.pop(next(iter(self._nets)))
            self._nets[place] = net
        return self._nets[place]


def selected(
    batch: IsingBatch, groups: Int[Tensor, " chosen"], queries: slice = slice(None)
) -> IsingBatch:
    """Some groups and queries of a batch, detached."""
    lengths, beta = batch.lengths, batch.beta
    if lengths is not None:
        lengths = lengths.expand(batch.num_groups, -1)[groups, queries]
    if isinstance(beta, Tensor):
        beta = beta.detach().expand(batch.num_groups)[groups]
    h, J = batch.h.detach()[groups, queries], batch.matrix.detach()[groups]
    return IsingBatch(h, J, lengths, beta, validate=False)


def some_queries(batch: IsingBatch) -> IsingBatch:
    """At most :data:`FEW_QUERIES` of the queries of each group, evenly spread."""
    spread = max(1, batch.num_queries // FEW_QUERIES)
    chosen = slice(None, spread * FEW_QUERIES, spread)
    return selected(batch, torch.arange(batch.num_groups), chosen)


def as_groups(batch: IsingBatch, problems: Int[Tensor, "problems two"]) -> IsingBatch:
    """Some problems, (group, query) each, as groups of one query."""
    g, q = problems.T
    part = selected(batch, g)
    lengths = None if part.lengths is None else part.lengths.gather(1, q.cpu()[:, None])
    h = part.h[torch.arange(len(q)), q].unsqueeze(1)
    return IsingBatch(h, part.J, lengths, part.beta, validate=False)


def at(batch: IsingBatch, share: Float[Tensor, " groups"]) -> IsingBatch:
    """The models at a share of their β, another one for each group."""
    beta = torch.as_tensor(batch.beta, device=share.device) * share
    return IsingBatch(batch.h, batch.J, batch.lengths, beta.to(batch.h), validate=False)
