r"""Bracket matching: predict Dyck words over several types of bracket."""

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from qattn.training.tasks.characters import encoded

SYMBOLS = "()[]{}<>"

STEPS_PER_POOL = 64
"""Training words are drawn for this many steps at a time, which is much faster."""


class Brackets:
    r"""Words of balanced brackets, uniform over all Dyck words of the length of the context.

    A Dyck word of length T over k types: one of Catalan(T/2) balanced patterns, with a type for
    each of its T/2 pairs, so Catalan(T/2)·k^(T/2) words. The input is a start token and the word
    without its last bracket, the targets are the word, and the loss is over all positions. The
    metric `accuracy` is the share of closing brackets whose type has the largest logit among the
    closing types: that a bracket closes here is not always determined, its type always is.

    The validation set holds at most 2,000 different words, no more than a tenth of all; training
    draws uniformly from the other words. Both are functions of the seed.

    Args:
        context: T, even.
        num_types: k, from 1 to 4.
        seed: Seed of both sets.

    Raises:
        ValueError: The context is odd or below 2, or `num_types` out of range.
    """

    metric = "accuracy"

    def __init__(self, context: int, *, num_types: int = 3, seed: int = 0) -> None:
        if context < 2 or context % 2:
            raise ValueError(
                f"Argument `context` must be even and positive for brackets, but is {context}."
            )
        if not 1 <= num_types <= len(SYMBOLS) // 2:
            raise ValueError(f"Argument `num_types` must be from 1 to 4, but is {num_types}.")
        self.context, self.num_types, self.seed = context, num_types, seed
        # Tokens: 2 t opens type t, 2 t + 1 closes it, the last is the start of a word.
        self.vocab_size = 2 * num_types + 1
        if context == 2 and num_types == 1:
            raise ValueError(
                "With one type, `context` must be 4 or more: () is the only word of length 2."
            )
        self._validation = self._validation_words()
        self._held_out = np.unique(fingerprints(self._validation))
        self._pool_key: tuple[int, int] | None = None
        self._pool = np.empty((0, context), dtype=np.int64)

    def batch(self, step: int, size: int) -> tuple[Int[Tensor, "size T"], Int[Tensor, "size T"]]:
        """Words that are not in the validation set, drawn with replacement."""
        number, within = divmod(step, STEPS_PER_POOL)
        if self._pool_key != (number, size):
            self._pool = self._training_words(number, size * STEPS_PER_POOL)
            self._pool_key = (number, size)
        return self.example(self._pool[within * size : (within + 1) * size])

    def validation(self) -> tuple[Int[Tensor, "words T"], Int[Tensor, "words T"]]:
        """The held-out words."""
        return self.example(self._validation)

    def metrics(
        self, logits: Float[Tensor, "words T vocab"], targets: Int[Tensor, "words T"]
    ) -> dict[str, float]:
        """Cross-entropy in nats and accuracy of the type at closing brackets."""
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        closing = targets % 2 == 1
        guess = logits[..., 1 : 2 * self.num_types : 2].argmax(-1) * 2 + 1
        accuracy = (guess == targets)[closing].float().mean()
        return {"validation_loss": loss.item(), "accuracy": accuracy.item()}

    def references(self) -> dict[str, dict[str, float]]:
        """Entropy of the language per bracket, ln(number of words)/T nats; chance among types."""
        entropy = math.log(number_of_words(self.context // 2, self.num_types)) / self.context
        return {
            "loss": {"entropy of the language": entropy},
            "accuracy": {"chance": 1 / self.num_types},
        }

    def token_names(self, tokens: Int[Tensor, " T"]) -> list[str]:
        """Brackets, and ^ for the start of a word."""
        return ["^" if t == self.vocab_size - 1 else SYMBOLS[t] for t in tokens.tolist()]

    def encode(self, text: str) -> Int[Tensor, " T"]:
        """The start of a word and these brackets.

        Raises:
            ValueError: The text has other characters.
        """
        word = encoded(text, SYMBOLS[: 2 * self.num_types])
        return F.pad(word, (1, 0), value=self.vocab_size - 1)

    def decode(self, tokens: Int[Tensor, " T"]) -> str:
        """The brackets, without the start of a word."""
        return "".join(self.token_names(tokens[tokens != self.vocab_size - 1]))

    def example(
        self, words: NDArray[np.int64]
    ) -> tuple[Int[Tensor, "words T"], Int[Tensor, "words T"]]:
        """Inputs and targets: these words behind the start without their last token, and they."""
        start = np.full((len(words), 1), self.vocab_size - 1)
        inputs = np.concatenate([start, words[:, :-1]], 1)
        return torch.from_numpy(inputs), torch.from_numpy(words)

    def _training_words(self, number: int, size: int) -> NDArray[np.int64]:
        rng = np.random.default_rng([self.seed, 1, number])
        words = np.empty((0, self.context), dtype=np.int64)
        while len(words) < size:
            more = dyck_words(rng, size, self.context, self.num_types)
            more = more[~np.isin(fingerprints(more), self._held_out)]
            words = np.concatenate([words, more])
        return words[:size]

    def _validation_words(self) -> NDArray[np.int64]:
        """Distinct words in the order in which uniform draws first meet them."""
        pairs = self.context // 2
        num_words = min(2000, max(1, number_of_words(pairs, self.num_types) // 10))
        rng = np.random.default_rng([self.seed, 0])
        words = np.empty((0, self.context), dtype=np.int64)
        while len(words) < num_words:
            more = dyck_words(rng, 2 * num_words, self.context, self.num_types)
            words = np.concatenate([words, more])
            _, first = np.unique(fingerprints(words), return_index=True)
            words = words[np.sort(first)]
        return words[:num_words]


def number_of_words(pairs: int, num_types: int) -> int:
    """Catalan(pairs) · num_types^pairs."""
    catalan = 1
    for i in range(pairs):
        catalan = catalan * 2 * (2 * i + 1) // (i + 2)
    words: int = catalan * num_types**pairs
    return words


def dyck_words(
    rng: np.random.Generator, size: int, length: int, num_types: int
) -> NDArray[np.int64]:
    r"""Words drawn uniformly from all Dyck words, shape (size, length).

    With d brackets open and r places left, the share of completions that open next is
    (d + 2)(r - d) / (2 r (d + 1)): the ratio of two ballot numbers.
    """
    words = np.empty((size, length), dtype=np.int64)
    stack = np.zeros((size, length // 2 + 1), dtype=np.int64)
    depth = np.zeros(size, dtype=np.int64)
    row = np.arange(size)
    types = rng.integers(num_types, size=(size, length))
    draws = rng.random((size, length))
    for t in range(length):
        left = length - t
        opens = draws[:, t] * (2 * left * (depth + 1)) < (depth + 2) * (left - depth)
        top = stack[row, depth]
        words[:, t] = np.where(opens, 2 * types[:, t], 2 * top + 1)
        stack[row[opens], depth[opens] + 1] = types[opens, t]
        depth += np.where(opens, 1, -1)
    return words


def fingerprints(words: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A 64-bit number for each word; two words that collide only cost one of them its place."""
    weights = np.random.default_rng(0).integers(2**63, size=words.shape[1], dtype=np.uint64)
    numbers: NDArray[np.uint64] = (words.astype(np.uint64) * weights).sum(1, dtype=np.uint64)
    return numbers
