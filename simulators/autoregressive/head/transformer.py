r"""A transformer over the spins that are drawn, which adds to a logit what its physics has missed.

Every position of the order of drawing is a token (:mod:`.tokens`) that attends to its scope, with
βJ_ij and the distance in the graph as biases of the scores (:mod:`.layer`, :mod:`.attention`). The
logit is a linear function of the last odd stream, zero at the start: a sampler with a head that is
not fitted is the sampler without it.

From two layers on a position also knows of the scopes of its scope, through what it attends to:
ancestors in the tree of parents, drawn before. On dense graphs that is nothing more.
"""

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from qattn.exact import memory
from qattn.simulators.autoregressive.conditional import Conditional
from qattn.simulators.autoregressive.head.attention import gathered, masked
from qattn.simulators.autoregressive.head.layer import Layer
from qattn.simulators.autoregressive.head.scopes import Scopes
from qattn.simulators.autoregressive.head.tokens import Tokens, beside, strength_of
from qattn.simulators.autoregressive.models import Models
from qattn.simulators.autoregressive.plan import Plan


class _Cache:
    """Keys and values of the spins that are drawn, of each layer; columns of all groups together.

    Attributes:
        biases: Of the scores of all positions, of each layer.
        streams: Of the level that is being drawn, before each layer.
    """

    def __init__(self, head: "Transformer", models: Models, num_reads: int) -> None:
        self.models, self.reads, self.strength = models, num_reads, strength_of(models)
        self.biases = [head.biases(layer, models, slice(None)) for layer in head.layers]
        columns = models.num_groups * models.num_queries * num_reads
        shape = (models.num_spins + 2, head.heads, head.width // head.heads, columns)
        self.keys = [models.h.new_zeros(shape) for _ in head.layers]
        self.values = [models.h.new_zeros(shape) for _ in head.layers]
        for layer, keys in zip(head.layers, self.keys, strict=True):
            keys[0] = layer.first_key
        self.streams: list[tuple[Tensor, Tensor]] = []


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
        if width % heads:
            raise ValueError(
                f"Argument `width` must be a multiple of the {heads} heads, but is {width}."
            )
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.width, self.heads = width, heads
        self.scopes = Scopes(plan, adjacency)
        self.tokens = Tokens(plan, width, generator)
        self.layers = nn.ModuleList(Layer(width, heads, layers, generator) for _ in range(layers))
        self.readout = nn.Parameter(torch.zeros(width))

    def cache_bytes(self, models: Models, num_reads: int) -> int:
        """Memory of the keys and values of so many reads of every query."""
        numbers = 2 * len(self.layers) * (models.num_spins + 2) * self.width
        columns = models.num_groups * models.num_queries * num_reads
        return columns * numbers * models.h.element_size()

    def begin(self, models: Models, num_reads: int) -> _Cache:
        """An empty cache.

        Raises:
            MemoryError: It would be larger than ``qattn.exact.memory.MEMORY_LIMIT``.
        """
        need, limit = self.cache_bytes(models, num_reads), memory.MEMORY_LIMIT
        if need > limit:
            raise MemoryError(
                f"Keys and values of {num_reads} reads need {need / 2**30:.3g} GiB, and the limit "
                f"is {limit / 2**30:.3g} GiB: draw at most {limit // self.cache_bytes(models, 1)} "
                f"reads at a time, or raise qattn.exact.memory.MEMORY_LIMIT."
            )
        return _Cache(self, models, num_reads)

    def logits(self, state: _Cache, level: slice, spins: Tensor) -> Tensor:
        """Logits of a level, by attention to the cached keys of its scopes."""
        models, index = state.models, self.scopes.keys_of(level)
        field = models.J[:, level, : level.start] @ spins[:, : level.start]
        streams = self.tokens(models, level, field, state.strength)
        absent = _absent(models, index, state.reads)
        state.streams = []
        for layer, keys, values, bias in zip(
            self.layers, state.keys, state.values, state.biases, strict=True
        ):
            state.streams.append(streams)
            bias = bias[level, : self.scopes.widths[level.start]] + absent
            streams = self._attended(layer, streams, keys, values, bias, index, level)
        return self._read_out(streams, models)

    def drawn(self, state: _Cache, level: slice, spins: Tensor) -> None:
        """Put the level's keys and values into the cache."""
        slots = slice(level.start + 1, level.stop + 1)
        for k, (layer, streams) in enumerate(zip(self.layers, state.streams, strict=True)):
            state.keys[k][slots], state.values[k][slots] = layer.keys_and_values(
                *streams, beside(spins[:, level])
            )

    def of_states(self, models: Models, spins: Tensor, positions: Tensor) -> Tensor:
        """Logits of some positions; in all layers but the last, streams of all positions."""
        reads, everywhere = spins.shape[2] // models.num_queries, slice(None)
        field = models.J.tril(-1) @ spins
        streams = self.tokens(models, everywhere, field, strength_of(models))
        rows: slice | Tensor = everywhere
        for k, layer in enumerate(self.layers):
            keys, values = layer.keys_and_values(*streams, beside(spins))
            # The slots before and after those of the positions.
            first = layer.first_key.expand(1, -1, -1, keys.shape[3])
            keys = torch.cat([first, keys, torch.zeros_like(first)])
            values = nn.functional.pad(values, (0, 0, 0, 0, 0, 0, 1, 1))
            if k == len(self.layers) - 1:
                rows, streams = positions, (streams[0][positions], streams[1][positions])
            index = self.scopes.index[rows]
            bias = self.biases(layer, models, rows) + _absent(models, index, reads)
            streams = self._attended(layer, streams, keys, values, bias, index, rows)
        return self._read_out(streams, models)

    def biases(self, layer: Layer, models: Models, rows: slice | Tensor) -> Tensor:
        """Biases of the scores of positions: (positions, keys, heads, g, 1)."""
        index = self.scopes.index[rows]
        J = nn.functional.pad(models.J[:, rows], (1, 1))
        J = J.gather(2, index.expand(len(J), -1, -1)).permute(1, 2, 0)
        return layer.biases(J, self.scopes.bucket[rows], self.scopes.valid[rows])

    def _attended(
        self,
        layer: Layer,
        streams: tuple[Tensor, Tensor],
        keys: Tensor,
        values: Tensor,
        bias: Tensor,
        index: Tensor | slice,
        rows: slice | Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Streams of positions after a layer."""
        groups = (bias.shape[3], -1)
        query, keys, values = (
            x.unflatten(3, groups) for x in (layer.queries(streams[0]), keys, values)
        )
        # Products with all keys are quicker where a position has most of them as keys.
        wide = isinstance(index, Tensor) and 2 * index.shape[1] > len(keys)
        attend = masked if wide else gathered
        attention = attend(query, keys, values, bias, index)
        size = self.scopes.sizes[rows].to(bias.dtype).sqrt()
        return layer.updated(*streams, attention.flatten(3) * size.view(-1, 1, 1, 1))

    def _read_out(self, streams: tuple[Tensor, Tensor], models: Models) -> Tensor:
        """The logit from the odd stream: (g, positions, columns)."""
        logit = (self.readout.unsqueeze(1) * streams[1]).sum(1)
        return logit.unflatten(1, (models.num_groups, -1)).transpose(0, 1)


def _absent(models: Models, index: Tensor | slice, num_reads: int) -> Tensor | float:
    """-∞ for keys that a query does not have: (positions, keys, 1, g, columns)."""
    if models.active is None:
        return 0.0
    bias = torch.zeros_like(models.h).masked_fill(~models.active, -torch.inf)
    bias = nn.functional.pad(bias, (0, 0, 1, 1)).transpose(0, 1)[index]
    bias = bias.unsqueeze(0) if isinstance(index, slice) else bias
    return models.to_columns(bias, num_reads).unsqueeze(2)
