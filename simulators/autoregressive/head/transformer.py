r"""A transformer over the spins that are drawn, which adds to a logit what its physics has missed.

Every position of the order of drawing is a query (:mod:`.tokens`) that attends to the spins of its
scope (:mod:`.layer`). The logit is a linear function of the last odd stream, zero at the start: a
sampler whose head is not fitted is the sampler without it.
"""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from qattn.exact import memory
from qattn.simulators.autoregressive.conditional import Conditional
from qattn.simulators.autoregressive.head.layer import Layer, Table
from qattn.simulators.autoregressive.head.scopes import Scopes
from qattn.simulators.autoregressive.head.tokens import Tokens, beside
from qattn.simulators.autoregressive.models import Models
from qattn.simulators.autoregressive.plan import Plan

CHUNK = 2**19
"""Numbers of an array that are in work at once: what a core's cache holds."""

CHUNK_ON_GPU = 2**27
"""The same on a GPU, which wants many."""


class _Cache:
    """What positions need beside the spins, and the spins by slot, columns of all groups together.

    Attributes:
        models: The models.
        rows: The positions.
        sites: Of the positions.
        J: Couplings to their keys, (positions, keys, groups).
        tables: Of each layer.
        spins: Of all slots; 0 where not drawn yet.
        absent: Slots that a column does not have; None where every column has all.
    """

    def __init__(self, head: "Transformer", models: Models, rows: Tensor, num_reads: int) -> None:
        head.check_memory(models, len(rows))
        scopes, sites = head.scopes, head.tokens.sites()
        index, bucket, valid = scopes.index[rows], scopes.bucket[rows], scopes.valid[rows]
        self.models, self.rows, self.sites = models, rows, sites[rows]
        J = nn.functional.pad(models.J[:, rows], (1, 0))
        self.J = J.gather(2, index.expand(len(J), -1, -1)).permute(1, 2, 0)
        x = self.J * head.degree**0.5
        self.tables: list[Table] = [layer.table(sites, x, bucket, valid) for layer in head.layers]
        self.index, self.sizes = index, [scopes.sizes[i] for i in rows.tolist()]
        columns = models.num_groups * models.num_queries * num_reads
        self.spins = models.h.new_zeros(1 + models.num_spins, columns)
        self.absent = None
        if models.active is not None:
            absent = beside(models.to_columns(~models.active, num_reads))
            self.absent = nn.functional.pad(absent, (0, 0, 1, 0))


class Transformer(Conditional):
    """See the module.

    Args:
        plan: The order of drawing.
        adjacency: Which pairs of spins are coupled, in the order of the models.
        layers: Number of layers.
        width: Embedding dimension.
        heads: Attention heads of a layer.
        seed: Of the parameters at the start.

    Raises:
        ValueError: There is no layer, or the width is no multiple of the heads.
        MemoryError: Models need more than ``qattn.exact.memory.MEMORY_LIMIT`` for the biases of
            the scores, when they are drawn or given states.
    """

    def __init__(
        self,
        plan: Plan,
        adjacency: Bool[Tensor, "n n"],
        layers: int = 2,
        width: int = 64,
        heads: int = 4,
        seed: int = 0,
    ) -> None:
        if layers < 1:
            raise ValueError(f"Argument `layers` must be positive, but is {layers}.")
        if heads < 1 or width % heads:
            raise ValueError(
                f"Argument `width` must be a multiple of the {heads} heads, but is {width}."
            )
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.width, self.heads = width, heads
        self.degree = float(adjacency.sum()) / max(1, len(adjacency))
        self.scopes = Scopes(plan, adjacency)
        self.tokens = Tokens(plan, width, generator)
        stack = [Layer(width, heads, layers, k == layers - 1, generator) for k in range(layers)]
        self.layers = cast("Sequence[Layer]", nn.ModuleList(stack))
        self.readout = nn.Parameter(torch.zeros(width, 1))

    def check_memory(self, models: Models, num_positions: int) -> None:
        """Raise a MemoryError if biases and couplings of positions would exceed the limit."""
        numbers = self.scopes.index.shape[1] * models.num_groups * num_positions
        need = numbers * (1 + 2 * self.heads * len(self.layers)) * models.h.element_size()
        if need > memory.MEMORY_LIMIT:
            raise MemoryError(
                f"The head's biases for {models.num_groups} groups x {num_positions} positions x "
                f"{self.scopes.index.shape[1]} keys need {need / 2**30:.3g} GiB, and the limit is "
                f"{memory.MEMORY_LIMIT / 2**30:.3g} GiB: use fewer groups at a time, fewer heads "
                f"or layers, or raise qattn.exact.memory.MEMORY_LIMIT."
            )

    def begin(self, models: Models, num_reads: int) -> _Cache:
        """Keys, values and biases of all positions, no spin drawn."""
        return _Cache(
            self, models, torch.arange(models.num_spins, device=models.h.device), num_reads
        )

    def logits(self, state: _Cache, level: slice, spins: Tensor) -> Tensor:
        """Logits of a level, by attention to the spins in the cache."""
        return self._logits(state, level)

    def drawn(self, state: _Cache, level: slice, spins: Tensor) -> None:
        """Put the level's spins into the cache."""
        state.spins[level.start + 1 : level.stop + 1] = beside(spins[:, level])

    def of_states(self, models: Models, spins: Tensor, positions: Tensor) -> Tensor:
        """Logits of some positions; of the others only the spins are needed."""
        cache = _Cache(self, models, positions, spins.shape[2] // models.num_queries)
        cache.spins[1:] = beside(spins)
        return self._logits(cache, slice(0, len(positions)))

    def _logits(self, cache: _Cache, rows: slice) -> Tensor:
        """Logits of some of the cache's positions, (g, positions, columns), a chunk at a time."""
        found, start, columns = [], rows.start, cache.spins.shape[1]
        limit = CHUNK if cache.spins.device.type == "cpu" else CHUNK_ON_GPU
        while start < rows.stop:
            numbers = columns * max(self.heads * cache.sizes[start], 2 * self.width)
            chunk = slice(start, min(rows.stop, start + max(1, limit // numbers)))
            found.append(self._chunk(cache, chunk))
            start = chunk.stop
        logits = torch.cat(found) if found else cache.spins[:0]
        of_groups: Tensor = logits.unflatten(1, (cache.models.num_groups, -1))
        return of_groups.transpose(0, 1)

    def _chunk(self, cache: _Cache, rows: slice) -> Tensor:
        width = max(cache.sizes[rows])
        index, J = cache.index[rows, :width], cache.J[rows, :width]
        spins = cache.spins[index]
        absent = None if cache.absent is None else cache.absent[index]
        # The field of the neighbours that are drawn: others are not in the scope.
        field = J.unsqueeze(3) * spins.unflatten(2, (J.shape[2], -1))
        field = field.sum(1).flatten(1)
        streams = self.tokens(cache.models, cache.rows[rows], cache.sites[rows], field)
        for layer, table in zip(self.layers, cache.tables, strict=True):
            streams = layer(streams, table.of(rows, width), index, spins, absent)
        logits: Tensor = (self.readout * streams[1]).sum(1)
        return logits
