"""What all attention layers share: projections, heads and the arithmetic of their weights."""

import math
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch._compile import _disable_dynamo  # torch.compiler.disable would load Dynamo on import
from torch.nn import functional as F
from torch.types import Device

from qattn.attention.masks import causal_lengths
from qattn.attention.models import masked
from qattn.attention.scores import scores
from qattn.couplings import Couplings
from qattn.ising.batch import IsingBatch
from qattn.ising.precision import at_least_single, without_autocast
from qattn.layers.beta import Beta, WithCriticalBeta
from qattn.layers.cache import KeyValueCache
from qattn.layers.position_bias import position_bias, unbiased


class MultiheadAttention(WithCriticalBeta):
    """Self-attention of one tensor; subclasses turn queries and keys into weights.

    A sequence attends to itself: there are no other keys and values, and no masks but the causal
    one (shorter sequences of a batch are not masked either). What takes queries, keys and values of
    its own, and masks, is :class:`qattn.BoltzmannMultiheadAttention`, and the function
    :func:`qattn.boltzmann_attention`.

    Args:
        embed_dim: Width of input and output.
        num_heads: Number of heads; divides `embed_dim`.
        context: Largest number of positions.
        is_causal: Position i attends to positions j ≤ i only.
        qk_norm: Layer-normalise queries and keys over the head dimension before their product;
            keeps the local fields of order one, whatever the width and the training time.
        normalize: Divide by the sum of a query's weights; those of softmax sum to one already.
        position_bias: What is added to the scores of query i and key j: "none"; "relative", a
            number for each head and distance |i - j|; "absolute", one for each head, i and j. All
            start at 0. Couplings act first as such a bias, so that an arm with couplings is
            compared with others that have one.
        beta: Inverse temperature β, which multiplies the scores with their biases: of softmax in
            place of 1, w = softmax(β(q·k/√d + bias)), of sigmoid w = σ(β(…)), of Ising models
            their β. A number from 0 on for all heads; or one for each head, 1 at the start:
            "learnable", the exponential of the parameter ``log_beta``; "critical", which
            :meth:`set_critical_beta` sets, in a training once before its first step;
            "critical-tracked", which a training sets again every ``beta_every`` steps.
        dropout: Probability with which, in training mode, each weight is set to 0, the others being
            divided by 1 - `dropout`.
        device: Where parameters are made; None means PyTorch's default.
        dtype: Their dtype; None means PyTorch's default.
    """

    has_field_bias: ClassVar[bool] = False

    is_block: bool = False
    """Whether it takes and gives the residual stream: it needs no norm and no skip around it."""

    TILE: ClassVar[int] = 128
    """Queries of a tile, where a causal layer with exact weights takes them by tiles."""

    TILES_FROM: ClassVar[int] = 256
    """Number of positions from which on it does."""

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        context: int,
        *,
        is_causal: bool = True,
        qk_norm: bool = False,
        normalize: bool = False,
        position_bias: str = "none",
        beta: Beta = 1.0,
        dropout: float = 0.0,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        sizes = {"embed_dim": embed_dim, "num_heads": num_heads, "context": context}
        for name, number in sizes.items():
            if number < 1:
                raise ValueError(f"Argument `{name}` must be positive, but is {number}.")
        if embed_dim % num_heads:
            raise ValueError(
                f"Argument `embed_dim` must be a multiple of `num_heads` = {num_heads}, "
                f"but is {embed_dim}."
            )
        check_dropout(dropout)
        self.num_heads, self.context = num_heads, context
        self.is_causal, self.normalize, self.dropout = is_causal, normalize, dropout
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim, **factory)
        self.out: nn.Module = nn.Linear(embed_dim, embed_dim, **factory)
        head_dim = embed_dim // num_heads
        self.position_bias = position_bias
        if (bias := unbiased(position_bias, num_heads, context)) is not None:
            self.position_bias_values = nn.Parameter(bias.to(**factory))
        if self.has_field_bias:
            start = torch.full((num_heads,), -math.log(context), **factory)
            self.field_bias = nn.Parameter(start)
        self.query_norm = nn.LayerNorm(head_dim, **factory) if qk_norm else nn.Identity()
        self.key_norm = nn.LayerNorm(head_dim, **factory) if qk_norm else nn.Identity()
        self._start_beta(beta, num_heads, **factory)

    def scores(
        self, x: Float[Tensor, "batch positions embed"]
    ) -> Float[Tensor, "batch heads positions positions"]:
        """q·k/√d with their biases, before β; -∞ where a query does not see a position."""
        query, key, _ = self._heads(x)
        with without_autocast(query.device):
            scores = self._scores(at_least_single(query), at_least_single(key))
            return masked(scores, -torch.inf, self._lengths(query, key)).expand(len(x), -1, -1, -1)

    def _models_before_beta(self, x: Tensor) -> Tensor | IsingBatch:
        return self.scores(x)

    def reset_parameters(self) -> None:
        """Draw all parameters anew, for a layer that was made on the meta device, say."""
        reset_children(self)
        if self.has_field_bias:
            nn.init.constant_(self.field_bias, -math.log(self.context))
        if self.position_bias != "none":
            nn.init.zeros_(self.position_bias_values)
        if isinstance(self._beta, str):
            nn.init.zeros_(self.log_beta)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"

    def extra_repr(self) -> str:
        """The settings."""
        more = "" if self.position_bias == "none" else f", position_bias={self.position_bias!r}"
        more += "" if self._beta == 1.0 else f", beta={self._beta!r}"
        more += f", dropout={self.dropout}" if self.dropout else ""
        return (
            f"embed_dim={self.qkv.in_features}, num_heads={self.num_heads}, "
            f"context={self.context}, is_causal={self.is_causal}, "
            f"qk_norm={isinstance(self.query_norm, nn.LayerNorm)}, normalize={self.normalize}{more}"
        )

    def forward(
        self,
        x: Float[Tensor, "batch positions embed"],
        *others: Tensor,
        need_weights: bool = False,
        cache: KeyValueCache | None = None,
    ) -> (
        Float[Tensor, "batch positions embed"]
        | tuple[
            Float[Tensor, "batch positions embed"],
            Float[Tensor, "batch heads positions keys"],
        ]
    ):
        """Attend, and project the heads' outputs back.

        Args:
            x: Input of all positions, or of those behind the positions of a cache.
            others: Refused.
            need_weights: Return (output, weights), the weights as they are before dropout, in
                float32 at least.
            cache: Positions before x, which x attends to; it then keeps those of x too. What comes
                out is what a pass over all positions gives at those of x.

        Raises:
            TypeError: More than one tensor is given.
            ValueError: x is not of this shape, has more positions than `context`, or the layer
                cannot use a cache, because earlier positions depend on later ones.
        """
        if others:
            raise TypeError(
                f"{type(self).__name__} is self-attention of one tensor, layer(x), but was given "
                f"{1 + len(others)}: for keys and values of their own take "
                f"qattn.BoltzmannMultiheadAttention, or call "
                f"qattn.boltzmann_attention(query, key, value, couplings)."
            )
        query, key, value = self._heads(x)
        inputs: Tensor | None = x
        if cache is not None:
            if reason := self._why_no_cache():
                raise ValueError(
                    f"Argument `cache` must be left out for this {type(self).__name__}, and all "
                    f"positions be passed: {reason}."
                )
            key, value, *kept = cache.extended(key, value, *self._kept_inputs(x))
            inputs = kept[0] if kept else None
        with without_autocast(x.device):
            couplings = self._couplings(inputs, key.shape[2])
        attend = self._attend_with_weights if need_weights else self._attend
        # What draws reads is left to Python: compiled code has one break here.
        attend = attend if self._is_traceable() else partial(uncompiled, attend)
        found: Any = attend(query, key, value, couplings)
        heads, weights = found if need_weights else (found, None)
        projected: Tensor = self.out(heads.transpose(1, 2).flatten(2))
        return projected if weights is None else (projected, weights)

    def weights(
        self, x: Float[Tensor, "batch positions embed"]
    ) -> Float[Tensor, "batch heads positions positions"]:
        """The attention weights that `forward` uses on x, in float32 at least."""
        query, key, _ = self._heads(x)
        weights = self._precise_weights(query, key, self.couplings_of(x))
        return weights.expand(len(x), -1, -1, -1)

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        width = self.qkv.in_features
        if x.ndim != 3 or x.shape[2] != width:
            hint = ": pass x[None] for one sequence" if x.shape[1:] == (width,) else ""
            raise ValueError(
                f"Argument `x` must have shape (batch, positions, embed_dim = {width}), "
                f"but has shape {tuple(x.shape)}{hint}."
            )
        if len(x) == 0:
            raise ValueError("Argument `x` must have at least 1 sequence, but has 0.")
        if not 0 < x.shape[1] <= self.context:
            raise ValueError(
                f"Argument `x` must have at least 1 and at most context = {self.context} "
                f"positions, but has {x.shape[1]}."
            )
        query, key, value = self._projected(x).permute(2, 0, 3, 1, 4).unbind(0)
        return self.query_norm(query), self.key_norm(key), value

    def _projected(self, x: Tensor) -> Tensor:
        """Queries, keys and values, shape (batch, positions, 3, heads, head_dim)."""
        projected: Tensor = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))
        return projected

    def _is_traceable(self) -> bool:
        """Whether ``torch.compile`` can see through the weights."""
        return True

    def couplings_of(self, x: Float[Tensor, "batch positions embed"]) -> Tensor | Couplings | None:
        """The couplings on x, of a layer that has some."""
        return None

    def _couplings(self, x: Tensor | None, size: int) -> Tensor | Couplings | None:
        """The couplings of the first positions, of a layer that has some."""
        return None

    def _kept_inputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """What a cache keeps besides keys and values: x where couplings depend on it."""
        return ()

    @property
    def takes_cache(self) -> bool:
        """Whether ``forward`` takes a cache."""
        return not self._why_no_cache()

    def _why_no_cache(self) -> str:
        """Why what the layer makes of a position depends on later ones; "" if it does not."""
        return "" if self.is_causal else "with is_causal=False positions see later ones"

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, couplings: Tensor | Couplings | None
    ) -> Tensor:
        T, before = query.shape[2], key.shape[2] - query.shape[2]
        tile = self.TILE if self.is_causal and T >= self.TILES_FROM and self._is_traceable() else T
        # Causal queries by tiles, each with the positions that it sees: T x T tensors are neither
        # stored nor moved, and the upper half is not computed.
        outputs = []
        for end in range(tile, T + tile, tile):
            rows, seen = slice(end - tile, end), slice(before + min(end, T))
            weights = self._precise_weights(query[:, :, rows], key[:, :, seen], couplings)
            outputs.append(self._dropped(weights).to(value.dtype) @ value[:, :, seen])
        return outputs[0] if tile == T else torch.cat(outputs, 2)

    def _attend_with_weights(
        self, query: Tensor, key: Tensor, value: Tensor, couplings: Tensor | Couplings | None
    ) -> tuple[Tensor, Tensor]:
        weights = self._precise_weights(query, key, couplings)
        heads = self._dropped(weights).to(value.dtype) @ value
        return heads, weights.expand(len(value), -1, -1, -1)

    def _dropped(self, weights: Tensor) -> Tensor:
        """Weights of which, in training mode, some are dropped."""
        return F.dropout(weights, self.dropout, self.training) if self.dropout else weights

    def _precise_weights(
        self, query: Tensor, key: Tensor, couplings: Tensor | Couplings | None
    ) -> Tensor:
        """The weights in float32 at least, also under autocast and of half-precision layers."""
        with without_autocast(query.device):
            return self._weights(at_least_single(query), at_least_single(key), couplings)

    @abstractmethod
    def _weights(self, query: Tensor, key: Tensor, couplings: Tensor | Couplings | None) -> Tensor:
        """Weights, shape (batch or 1, heads, queries, positions).

        Args:
            query: Queries, in a causal layer those of the last positions.
            key: Keys of the first positions.
            couplings: Those of all positions, of a layer that has some.
        """

    def _scores(self, query: Tensor, key: Tensor, factor: float | Tensor = 1.0) -> Tensor:
        """Scores with their biases, times `factor`, one number or one for each head."""
        scale = (self.qkv.in_features // self.num_heads) ** -0.5
        field_bias = at_least_single(self.field_bias) if self.has_field_bias else None
        position_bias = self._position_bias(query.shape[2], key.shape[2])
        return scores(query, key, scale, field_bias, position_bias, factor=factor)

    def _lengths(self, query: Tensor, key: Tensor) -> Tensor | None:
        """How many positions each query sees."""
        return causal_lengths(self.is_causal, query.shape[2], key.shape[2])

    def _position_bias(self, num_queries: int, num_positions: int) -> Tensor | None:
        if self.position_bias == "none":
            return None
        return position_bias(at_least_single(self.position_bias_values), num_queries, num_positions)


def reset_children(module: nn.Module) -> None:
    """Draw the parameters of a module's parts anew, of each by its own ``reset_parameters``."""
    for part in module.children():
        reset: Callable[[], None] = getattr(part, "reset_parameters", partial(reset_children, part))
        reset()


def check_dropout(dropout: float) -> None:
    """Raise a ValueError unless this is the probability of a weight to be dropped."""
    if not 0 <= dropout <= 1:
        raise ValueError(f"Argument `dropout` must lie between 0 and 1, but is {dropout}.")


@_disable_dynamo
def uncompiled(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function that ``torch.compile`` is not to look into."""
    return function(*args)
