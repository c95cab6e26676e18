"""Text as the characters of a vocabulary."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor


def encoded(text: str, characters: Sequence[str]) -> Int[Tensor, " T"]:
    """The number of each character of a text among these.

    Raises:
        ValueError: The text has other characters.
    """
    index = {character: number for number, character in enumerate(characters)}
    unknown = sorted(set(text) - set(index))
    if unknown:
        raise ValueError(
            f"Argument `text` must have characters of the task's vocabulary only, but has "
            f"{', '.join(map(repr, unknown))}: it knows {''.join(characters)!r}."
        )
    return torch.tensor([index[character] for character in text], dtype=torch.int64)
