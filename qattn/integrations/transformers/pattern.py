"""What a self-attention module gets: couplings, field bias and β, for the keys that it sees."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from qattn.attention.masks import split_mask
from qattn.couplings import Banded, Couplings
from qattn.integrations.transformers.positions import Positions, positions_of, within_window
from qattn.ising.precision import at_least_single
from qattn.layers import IsingPattern
from qattn.layers.structures import DenseStructure


class AttachedPattern(IsingPattern):
    """The couplings of a self-attention module of a model, its submodule ``boltzmann``.

    Args:
        num_heads: Heads of queries.
        context: Positions that a text may have: rows of J.
        window: How many positions, the last ones, a query attends to; None for all that it sees.
        options: As of :class:`qattn.layers.IsingPattern`.
    """

    def __init__(
        self, num_heads: int, context: int, *, window: int | None = None, **options: Any
    ) -> None:
        super().__init__(num_heads, context, **options)
        if window is not None and window < 1:
            raise ValueError(f"Argument `window` must be positive, but is {window}.")
        self.window = window

    @property
    def settings(self) -> dict[str, Any]:
        """What it is made with, but for where its mean spins come from."""
        return {
            "context": self.context,
            "window": self.window,
            "normalize": self.normalize,
            "position_bias": self.position_bias,
            "beta": self._beta,
            "couplings": self.structure.kind,
            "interaction": self.interaction,
            "moments": self.moments,
            **self.structure.options,
        }

    def _seen_couplings(self) -> Tensor | Couplings:
        """Within a window J by distance has a band: all full windows are models of one J."""
        match self.structure:
            case DenseStructure(relative=True) as structure if self.window is not None:
                values = at_least_single(self.get_parameter("coupling_values"))
                entries = structure.entries({"coupling_values": values})
                return Banded.relative(entries[:, : self.window - 1], self.context)
        return super()._seen_couplings()

    def extra_repr(self) -> str:
        """The settings."""
        window = "" if self.window is None else f", window={self.window}"
        return f"{super().extra_repr()}{window}"


def attend(
    pattern: AttachedPattern,
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch key_heads keys head_dim"],
    value: Float[Tensor, "batch key_heads keys value_dim"],
    mask: Tensor | None,
    *,
    positions: Positions | None,
    is_causal: bool,
    **options: Any,
) -> tuple[
    Float[Tensor, "batch heads queries value_dim"],
    Float[Tensor, "batch heads queries keys"],
]:
    """Output and weights, with J by the positions of the text that keys are.

    Args:
        pattern: The couplings.
        query: Queries.
        key: Keys, in the slots of a cache, say.
        value: Values.
        mask: What a query sees, or what is added to its scores; None for all that it can see.
        positions: Those of the mask, if they are known.
        is_causal: Whether queries are the last positions and see what is up to themselves,
            where there is no mask.
        options: Further ones of the pattern.

    Raises:
        ValueError: The text has more positions than the context.
    """
    keys = key.shape[2]
    if mask is None:
        positions = Positions(is_causal, None, keys)
    elif positions is None:
        seen, added = split_mask(mask)
        assert seen is not None
        positions = positions_of(seen)
        mask = seen if added is None or not added.any() else mask
    if positions.size > pattern.context:
        raise ValueError(
            f"Couplings are attached for {pattern.context} positions, but this text has "
            f"{positions.size}: attach with context={positions.size} or more, or shorten it."
        )
    if positions.is_causal and (mask is None or mask.dtype == torch.bool):
        mask, is_causal = None, True
    if pattern.window is not None and pattern.window < positions.size:
        mask = _windowed(mask, pattern.window, positions, query, keys)
    size = keys if positions.rows is not None else min(keys, positions.size)
    output, weights = pattern(
        query,
        # Without rows, what is beyond the text is slots of a cache that are empty as yet.
        key[:, :, :size],
        value[:, :, :size],
        None if mask is None else mask[..., :size],
        is_causal=is_causal and mask is None,
        rows=positions.rows,
        query_rows=_query_rows(pattern, mask, positions.rows, query.shape[2]),
        **options,
    )
    return output, F.pad(weights, (0, keys - size))


def _query_rows(
    pattern: AttachedPattern, mask: Tensor | None, rows: Tensor | None, queries: int
) -> Int[Tensor, "batch queries"] | None:
    """Where queries of a cache stand, for a position bias: at the last key that each sees."""
    if pattern.position_bias == "none" or rows is None or queries == rows.shape[-1]:
        return None
    seen, _ = split_mask(mask)
    assert seen is not None
    return torch.where(seen, rows[:, None, None], -1).amax((1, 3))


def _windowed(
    mask: Tensor | None, window: int, positions: Positions, query: Tensor, keys: int
) -> Tensor:
    """The mask that leaves each query the last positions that it sees."""
    if mask is None:
        queries = query.shape[2]
        mask = torch.ones(1, 1, queries, keys, dtype=torch.bool, device=query.device)
        mask = mask.tril(keys - queries)
    seen, _ = split_mask(mask)
    assert seen is not None
    inside = within_window(seen, positions.rows, window)
    return inside if mask.dtype == torch.bool else mask.masked_fill(~inside, -torch.inf)
