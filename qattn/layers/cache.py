"""Keys and values of positions that a causal layer has seen already."""

import torch
from torch import Tensor


class KeyValueCache:
    """What a causal layer keeps of a text, so that the next positions are all that it computes.

    Memory for `context` positions is taken at the first pass and filled in place. The batch is that
    of the first pass; all of its sequences have the same length.

    Args:
        context: Largest number of positions.

    Attributes:
        length: Number of positions that are kept; a smaller number drops the last ones.

    >>> from qattn.layers import BoltzmannAttention
    >>> layer, cache = BoltzmannAttention(8, 2, context=5), KeyValueCache(5)
    >>> x = torch.randn(1, 4, 8)
    >>> with torch.no_grad():
    ...     first, last = layer(x[:, :3], cache=cache), layer(x[:, 3:], cache=cache)
    ...     torch.testing.assert_close(torch.cat([first, last], 1), layer(x))
    >>> cache.length
    4
    """

    def __init__(self, context: int) -> None:
        self.context = context
        self.length = 0
        self._kept: list[Tensor] = []

    def __repr__(self) -> str:
        return f"KeyValueCache({self.length} of {self.context} positions)"

    def extended(self, *parts: Tensor) -> list[Tensor]:
        """Each part behind what is kept of it: views of all positions up to the new ones.

        Args:
            parts: What is kept, shape (batch, …, new positions, components) each.

        Raises:
            ValueError: Another batch than before, more positions than `context`, or gradients.
        """
        start, end = self.length, self.length + parts[0].shape[-2]
        if end > self.context:
            raise ValueError(
                f"Argument `cache` has room for context = {self.context} positions: {start} are "
                f"taken, and {end - start} more do not fit. Start a new cache with the last ones."
            )
        if torch.is_grad_enabled() and any(part.requires_grad for part in parts):
            raise ValueError(
                "Argument `cache` must be left out where gradients are computed: call the layer "
                "under torch.no_grad(), or without a cache on all positions."
            )
        if not start:
            self._kept = [
                part.new_empty(*part.shape[:-2], self.context, part.shape[-1]) for part in parts
            ]
        if len(parts[0]) != len(self._kept[0]):
            raise ValueError(
                f"Argument `cache` holds {len(self._kept[0])} sequences, but `x` has "
                f"{len(parts[0])}."
            )
        for kept, part in zip(self._kept, parts, strict=True):
            kept[..., start:end, :] = part
        self.length = end
        return [kept[..., :end, :] for kept in self._kept]
