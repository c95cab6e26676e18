r"""Text from a language model, token by token."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qattn.layers.cache import KeyValueCache


@runtime_checkable
class LanguageModel(Protocol):
    """What :func:`generate` needs of a model, as :class:`qattn.Transformer` has it."""

    @property
    def context(self) -> int:
        """Largest number of tokens of a pass."""

    @property
    def takes_cache(self) -> bool:
        """Whether it can compute the last tokens alone."""

    def new_cache(self) -> list[KeyValueCache]:
        """An empty cache."""

    def __call__(
        self, tokens: Tensor, cache: list[KeyValueCache] | None = None, need_weights: bool = False
    ) -> Any:
        """Logits, or (logits, weights of each layer)."""


class Step(NamedTuple):
    """A token of each text, as :func:`stream` yields it.

    Attributes:
        token: The token that was chosen.
        logits: What the model said of it, before temperature and `top_k`.
        weights: If they were asked for, the attention weights of the last token before it in every
            layer, over the tokens that it saw: the last ones of the text up to it.
    """

    token: Int[Tensor, " batch"]
    logits: Float[Tensor, "batch vocab"]
    weights: list[Float[Tensor, "batch heads positions"]] | None


def generate(
    model: LanguageModel,
    tokens: Int[Tensor, "batch positions"],
    num_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "batch longer"]:
    r"""Tokens, and as many more as are asked for, each drawn given those before it.

    .. math:: p(t) \propto \exp(\text{logit}_t / T) \quad
              \text{of the } k \text{ tokens with the largest logits}

    Each step computes the new token alone, behind a cache of keys and values, until the text has as
    many tokens as the model's context. From then on the model sees the last `context` tokens, and
    each step computes all of them anew: its embeddings and couplings belong to absolute positions,
    which every token changes when the window moves. So do models whose attention takes no cache
    (a spin model's steady state). What comes out is the same in both ways, to rounding.

    Where mean spins come from reads, each step draws those of the new query (of all, where it
    computes all), with PyTorch's global generator: ``torch.manual_seed`` fixes them.

    Args:
        model: The model, in evaluation mode if it has dropout.
        tokens: What the texts begin with, all with the same number of tokens.
        num_tokens: Number of tokens to add.
        temperature: T, from 0 on; at 0 the token with the largest logit is taken.
        top_k: k; None means all tokens.
        generator: Where random numbers for the tokens come from; None means PyTorch's global
            generator.

    Raises:
        ValueError: A number is out of range, or there is no token to begin with.
        FloatingPointError: The model gives logits that are not finite.

    To have each token as it comes, or the attention weights: :func:`stream`.

    >>> import qattn
    >>> model = qattn.Transformer(vocab_size=10, context=6, num_heads=2, embed_dim=8).eval()
    >>> text = generate(model, torch.tensor([[3, 1, 4]]), 9, temperature=0.8, top_k=5)
    >>> text.shape
    torch.Size([1, 12])
    """
    chosen = stream(
        model, tokens, num_tokens, temperature=temperature, top_k=top_k, generator=generator
    )
    return torch.cat([tokens, *(step.token[:, None] for step in chosen)], 1)


def stream(
    model: LanguageModel,
    tokens: Int[Tensor, "batch positions"],
    num_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    generator: torch.Generator | None = None,
    need_weights: bool = False,
) -> Iterator[Step]:
    """The steps of :func:`generate`, each when it is taken: an error loses no token before it.

    Args:
        model: The model.
        tokens: What the texts begin with.
        num_tokens: Number of tokens to add.
        temperature: T.
        top_k: k.
        generator: Where random numbers come from.
        need_weights: Whether steps have the attention weights that they were computed with.

    >>> import qattn
    >>> model = qattn.Transformer(vocab_size=10, context=6, num_heads=2, embed_dim=8).eval()
    >>> for step in stream(model, torch.tensor([[3, 1, 4]]), 2, need_weights=True):
    ...     print(step.weights[0].shape)  # layer 0
    torch.Size([1, 2, 3])
    torch.Size([1, 2, 4])
    """
    for name, number in (("num_tokens", num_tokens), ("temperature", temperature)):
        if not 0 <= number < float("inf"):
            raise ValueError(f"Argument `{name}` must be from 0 on, but is {number}.")
    if top_k is not None and top_k < 1:
        raise ValueError(f"Argument `top_k` must be positive, but is {top_k}.")
    if 0 in tokens.shape:
        raise ValueError(
            f"Argument `tokens` must have at least 1 text of 1 token to begin with, but has shape "
            f"{tuple(tokens.shape)}."
        )
    return _steps(model, tokens, num_tokens, temperature, top_k, generator, need_weights)


def _steps(
    model: LanguageModel,
    text: Tensor,
    num_tokens: int,
    temperature: float,
    top_k: int | None,
    generator: torch.Generator | None,
    need_weights: bool,
) -> Iterator[Step]:
    cache = model.new_cache() if model.takes_cache else None
    text = text[:, -model.context :]
    new = text
    for _ in range(num_tokens):
        if text.shape[1] > model.context:
            text = text[:, -model.context :]
            new, cache = text, None
        with torch.no_grad():
            found = model(new if cache is not None else text, cache, need_weights)
            logits, weights = found if need_weights else (found, None)
            token = chosen_token(logits[:, -1], temperature, top_k, generator)
        yield Step(token, logits[:, -1], weights and [w[:, :, -1] for w in weights])
        new = token[:, None]
        text = torch.cat([text, new], 1)


def chosen_token(
    logits: Float[Tensor, "batch vocab"],
    temperature: float,
    top_k: int | None,
    generator: torch.Generator | None,
) -> Int[Tensor, " batch"]:
    """The token with the largest logit, or one drawn by :func:`generate`'s probabilities."""
    if not bool(logits.isfinite().all()):
        raise FloatingPointError(
            "The model's logits are not finite: its training diverged, or its weights are damaged."
        )
    if temperature == 0:
        return logits.argmax(-1)
    kept = logits.topk(min(top_k or logits.shape[-1], logits.shape[-1]), -1)
    # Relative to the largest, so that nothing overflows however cold it is.
    probabilities = ((kept.values - kept.values[:, :1]).double() / temperature).softmax(-1)
    drawn = torch.multinomial(probabilities, 1, generator=generator)
    return kept.indices.gather(-1, drawn).squeeze(-1)
