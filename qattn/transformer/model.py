"""A small pre-norm transformer language model with any of the attention layers."""

from collections.abc import Iterator
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from qattn.couplings import Couplings
from qattn.ising.batch import IsingBatch
from qattn.layers import ATTENTION, BoltzmannAttention, MultiheadAttention
from qattn.layers.cache import KeyValueCache
from qattn.layers.multihead import reset_children
from qattn.transformer.generation import generate
from qattn.weights import Pretrained

EMBEDDING_STD = 0.02
"""Standard deviation of the initial embeddings of tokens and positions."""


class Block(nn.Module):
    """Attention and, of a width above 0, a feed-forward network, each behind a norm and a skip.

    An attention that is a block already stands alone.
    """

    def __init__(self, embed_dim: int, attention: MultiheadAttention, ffn_width: int) -> None:
        super().__init__()
        self.attention_norm = nn.Identity() if attention.is_block else nn.LayerNorm(embed_dim)
        self.attention = attention
        self.ffn = (
            nn.Sequential(
                nn.LayerNorm(embed_dim),
                nn.Linear(embed_dim, ffn_width),
                nn.GELU(),
                nn.Linear(ffn_width, embed_dim),
            )
            if ffn_width
            else None
        )

    def forward(
        self, x: Tensor, cache: KeyValueCache | None = None, weights: list[Tensor] | None = None
    ) -> Tensor:
        """Output of the block for the input x, behind the positions of a cache.

        Attention weights are added to the list `weights`, if there is one.
        """
        attended = self.attention(
            self.attention_norm(x), cache=cache, need_weights=weights is not None
        )
        if weights is not None:
            attended, found = attended
            weights.append(found)
        x = attended if self.attention.is_block else x + attended
        return x if self.ffn is None else x + self.ffn(x)


class Transformer(Pretrained):
    r"""Causal language model: token and position embeddings, blocks, a linear read-out.

    Args:
        vocab_size: Number of tokens.
        context: Largest number of positions.
        attention: Arm, a key of :data:`qattn.layers.ATTENTION`.
        num_layers: Number of blocks.
        num_heads: Number of heads in each.
        embed_dim: Width.
        ffn: Whether blocks have a feed-forward network (GELU).
        ffn_width: Its hidden width; None means 4 `embed_dim`.
        device: Where the model is moved when it is made; None means PyTorch's default.
        dtype: The dtype of its parameters; None means PyTorch's default.
        attention_options: Further keyword arguments of the attention layer.

    Raises:
        ValueError: The arm is unknown, or a size is out of range.

    >>> model = Transformer(vocab_size=10, context=6, num_heads=2, embed_dim=8, qk_norm=True)
    >>> tokens = torch.zeros(3, 6, dtype=torch.int64)
    >>> model(tokens).shape
    torch.Size([3, 6, 10])
    >>> model.ising_batches(tokens)[0].h.shape  # layer 0: heads, queries, spins
    torch.Size([2, 18, 6])
    """

    def __init__(
        self,
        vocab_size: int,
        context: int,
        *,
        attention: str = "boltzmann",
        num_layers: int = 2,
        num_heads: int = 4,
        embed_dim: int = 64,
        ffn: bool = True,
        ffn_width: int | None = None,
        device: Device = None,
        dtype: torch.dtype | None = None,
        **attention_options: Any,
    ) -> None:
        super().__init__()
        if attention not in ATTENTION:
            raise ValueError(
                f"Argument `attention` must be one of {', '.join(ATTENTION)}, but is {attention!r}."
            )
        if ffn_width is not None and (ffn_width < 1 or not ffn):
            needed = "be positive" if ffn else "be left out without a feed-forward network"
            raise ValueError(f"Argument `ffn_width` must {needed}, but is {ffn_width}.")
        arm = ATTENTION[attention]
        hidden = (ffn_width or 4 * embed_dim) if ffn else 0
        self.tokens = nn.Embedding(vocab_size, embed_dim)
        self.positions = nn.Parameter(torch.empty(context, embed_dim))
        self._draw_embeddings()
        self.blocks = nn.ModuleList(
            Block(embed_dim, arm(embed_dim, num_heads, context, **attention_options), hidden)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(embed_dim)
        self.read_out = nn.Linear(embed_dim, vocab_size)
        self.to(device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """Draw all parameters anew, for a model that was made on the meta device, say."""
        reset_children(self)
        self._draw_embeddings()

    def forward(
        self,
        tokens: Int[Tensor, "batch positions"],
        cache: list[KeyValueCache] | None = None,
        need_weights: bool = False,
    ) -> (
        Float[Tensor, "batch positions vocab"]
        | tuple[
            Float[Tensor, "batch positions vocab"],
            list[Float[Tensor, "batch heads positions keys"]],
        ]
    ):
        """Logits of the next token at every position.

        Args:
            tokens: All tokens, or those behind the positions of a cache.
            cache: One of :meth:`new_cache`; it then holds the positions of the tokens too, unless
                the pass fails, which leaves it as it was.
            need_weights: Return (logits, attention weights of every layer).

        Raises:
            ValueError: There are more tokens than `context`, with those of the cache; or a layer
                takes no cache (:attr:`takes_cache`).
        """
        weights: list[Tensor] | None = [] if need_weights else None
        caches: list[KeyValueCache | None] = [*cache] if cache else [None] * len(self.blocks)
        if len(caches) != len(self.blocks):
            raise ValueError(
                f"Argument `cache` must hold one of each of the {len(self.blocks)} layers, as "
                f"new_cache() makes them, but holds {len(caches)}."
            )
        start = cache[0].length if cache else 0
        x = self._embedded(tokens, start)
        try:
            for block, kept in zip(self.blocks, caches, strict=True):
                x = block(x, kept, weights)
        except BaseException:
            for grown in cache or []:
                grown.length = start
            raise
        logits: Tensor = self.read_out(self.norm(x))
        return logits if weights is None else (logits, weights)

    @property
    def context(self) -> int:
        """Largest number of positions."""
        return len(self.positions)

    @property
    def takes_cache(self) -> bool:
        """Whether all layers can compute the last positions alone."""
        blocks = cast("list[Block]", self.blocks)
        return all(block.attention.takes_cache for block in blocks)

    def new_cache(self) -> list[KeyValueCache]:
        """An empty cache of keys and values for each layer, to decode texts piece by piece.

        >>> model = Transformer(vocab_size=10, context=6, num_heads=2, embed_dim=8)
        >>> cache = model.new_cache()
        >>> with torch.no_grad():
        ...     for token in (3, 1, 4):
        ...         logits = model(torch.tensor([[token]]), cache)
        >>> cache[0]
        KeyValueCache(3 of 6 positions)
        """
        return [KeyValueCache(self.context) for _ in self.blocks]

    def generate(
        self, tokens: Int[Tensor, "batch positions"], num_tokens: int, **options: Any
    ) -> Int[Tensor, "batch longer"]:
        """Tokens, and as many more, as :func:`qattn.transformer.generate` draws them.

        Args:
            tokens: What the texts begin with.
            num_tokens: Number of tokens to add.
            options: ``temperature``, ``top_k`` and ``generator``.
        """
        return generate(self, tokens, num_tokens, **options)

    @torch.no_grad()
    def attention_weights(
        self, tokens: Int[Tensor, "batch positions"]
    ) -> list[Float[Tensor, "batch heads positions positions"]]:
        """The attention weights of every layer on these tokens."""
        return [attention.weights(x) for attention, x in self._attention_inputs(tokens)]

    @torch.no_grad()
    def scores(
        self, tokens: Int[Tensor, "batch positions"]
    ) -> list[Float[Tensor, "batch heads positions positions"]]:
        """The scores of every layer on these tokens, before β; -∞ where a query does not see."""
        return [attention.scores(x) for attention, x in self._attention_inputs(tokens)]

    def couplings(self, tokens: Int[Tensor, "batch positions"]) -> list[Tensor | Couplings]:
        """The couplings of every layer that has some on these tokens."""
        found = (attention.couplings_of(x) for attention, x in self._attention_inputs(tokens))
        return [couplings for couplings in found if couplings is not None]

    def ising_batches(self, tokens: Int[Tensor, "batch positions"]) -> list[IsingBatch]:
        """The Ising models that every layer with couplings solves on these tokens."""
        return [
            attention.ising_batch(x)
            for attention, x in self._attention_inputs(tokens)
            if isinstance(attention, BoltzmannAttention)
        ]

    def set_critical_betas(
        self, tokens: Int[Tensor, "batch positions"]
    ) -> Bool[Tensor, "layers heads"]:
        """Set β of every head to its critical value on these tokens, where it has one.

        Layer by layer: each sees what those before it make of the tokens with their new β. See
        ``set_critical_beta`` of a layer.

        Returns:
            Whether each head has a new β.
        """
        with torch.no_grad():
            inputs = self._attention_inputs(tokens)
            return torch.stack([attention.set_critical_beta(x) for attention, x in inputs])

    def _draw_embeddings(self) -> None:
        for embedding in (self.tokens.weight, self.positions):
            nn.init.normal_(embedding, std=EMBEDDING_STD)

    def _attention_inputs(self, tokens: Tensor) -> Iterator[tuple[MultiheadAttention, Tensor]]:
        """The attention of each layer, and what it sees of these tokens."""
        x = self._embedded(tokens)
        for block in cast("list[Block]", self.blocks):
            yield block.attention, block.attention_norm(x)
            x = block(x)

    def _embedded(self, tokens: Tensor, start: int = 0) -> Tensor:
        positions = self.positions[start : start + tokens.shape[1]]
        if len(positions) < tokens.shape[1]:
            raise ValueError(
                f"Argument `tokens` must have at most context = {self.context} positions, "
                f"but has {tokens.shape[1]}" + (f" behind {start} of the cache." if start else ".")
            )
        return F.embedding(tokens, self.tokens.weight) + positions
