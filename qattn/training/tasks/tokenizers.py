"""Tokens of a text: characters, bytes, words, or what another package makes of it."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from qattn.training.tasks.characters import encoded

UNKNOWN = "<unk>"
"""The token of words that are not in the vocabulary."""

PIECE = re.compile(r" ?\w+(?:'\w+)*| ?[^\w\s]|\s")
"""A word or a sign with the space before it, or other white space: every character is in one."""


@runtime_checkable
class Tokenizer(Protocol):
    """A vocabulary, and the way between texts and its numbers.

    Made by a function of the text that is trained on, its part for validation included.
    """

    vocab_size: int

    def encode(self, text: str) -> list[int]:
        """Tokens of a text.

        Raises:
            ValueError: The vocabulary does not know a part of the text.
        """

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens."""


class Characters:
    """The characters that a text has, in the order of Unicode."""

    def __init__(self, text: str) -> None:
        self.characters = sorted(set(text))
        self.vocab_size = len(self.characters)

    def encode(self, text: str) -> list[int]:
        """Numbers of the characters.

        Raises:
            ValueError: The text has other characters.
        """
        numbers: list[int] = encoded(text, self.characters).tolist()
        return numbers

    def decode(self, tokens: Sequence[int]) -> str:
        """The characters."""
        return "".join(self.characters[t] for t in tokens)


class Bytes:
    """The 256 bytes, of UTF-8 where the text is one: any file can be read.

    >>> Bytes().encode("é"), Bytes().decode([195, 169, 195])
    ([195, 169], 'é�')
    """

    vocab_size = 256

    def __init__(self, text: str = "") -> None:
        pass

    def encode(self, text: str) -> list[int]:
        """The bytes; those that are no UTF-8 are surrogate escapes of the text."""
        return list(text.encode("utf-8", "surrogateescape"))

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of the bytes, with a � for each sequence that is no UTF-8."""
        return bytes(tokens).decode("utf-8", "replace")


class Words:
    r"""Words and signs, each with the space before it, and other white space.

    The vocabulary is ``<unk>``, which stands for every other word, and the most frequent of the
    text, first the more frequent. A text of known words is decoded as it was.

    Args:
        text: The text whose words are counted.
        vocab_size: Largest number of tokens, ``<unk>`` among them.

    >>> words = Words("The cat, the dog.\nThe bird.")
    >>> [words.decode([t]) for t in words.encode("The dog, the fish.")]
    ['The', ' dog', ',', ' the', '<unk>', '.']
    """

    def __init__(self, text: str, *, vocab_size: int = 10_000) -> None:
        if vocab_size < 2:
            raise ValueError(f"Argument `vocab_size` must be at least 2, but is {vocab_size}.")
        counts = Counter(PIECE.findall(text)).most_common(vocab_size - 1)
        self.words = [UNKNOWN, *(word for word, _ in counts)]
        self.vocab_size = len(self.words)
        self._index = {word: number for number, word in enumerate(self.words)}

    def encode(self, text: str) -> list[int]:
        """Numbers of the words."""
        return [self._index.get(word, 0) for word in PIECE.findall(text)]

    def decode(self, tokens: Sequence[int]) -> str:
        """The words, joined."""
        return "".join(self.words[t] for t in tokens)


TOKENIZERS: dict[str, Callable[..., Tokenizer]] = {
    "characters": Characters,
    "bytes": Bytes,
    "words": Words,
}
"""What makes a tokenizer of a text, by the name that the command line uses."""
