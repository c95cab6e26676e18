"""What a slot must couple: every pair of spins, or those of a band."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Pattern:
    """The pairs of spins that the problems of a slot may couple.

    A clique couples all of them. In a band, spins couple that are at most `width` apart. A carrier
    of fields is spin 0, is coupled to every other, and is not counted in distances. What a band
    couples depends on distances only, so that shorter problems lie anywhere in a long one, side by
    side.

    Args:
        num_spins: Programmed spins of a slot, the carrier included.
        width: Largest distance of coupled spins; None means a clique. A width that couples every
            pair is None afterwards, a width of 0 is 1.
        carrier: Number, 0 or 1, of spins that carry fields; 0 for a clique, whose spins are alike.

    >>> Pattern(5, width=1, carrier=1).pairs.T
    array([[0, 0, 0, 0, 1, 2, 3],
           [1, 2, 3, 4, 2, 3, 4]])
    >>> Pattern(4, width=3)
    Pattern(num_spins=4, width=None, carrier=0)
    """

    num_spins: int
    width: int | None = None
    carrier: int = 0

    def __post_init__(self) -> None:
        if self.width is not None:
            object.__setattr__(self, "width", max(1, self.width))
        if self.width is None or self.width >= self.num_spins - self.carrier - 1:
            object.__setattr__(self, "width", None)
            object.__setattr__(self, "carrier", 0)

    @property
    def clique(self) -> "Pattern":
        """All pairs of as many spins."""
        return Pattern(self.num_spins)

    @cached_property
    def pairs(self) -> NDArray[np.int64] | None:
        """The pairs j < k of a band, shape (pairs, 2); None for a clique."""
        return None if self.width is None else self._pairs(self.width)

    @cached_property
    def all_pairs(self) -> NDArray[np.int64]:
        """The pairs j < k, shape (pairs, 2)."""
        return self._pairs(self.num_spins if self.width is None else self.width)

    def _pairs(self, width: int) -> NDArray[np.int64]:
        j, k = np.triu_indices(self.num_spins, 1)
        coupled = (k - j <= width) | (j < self.carrier)
        return np.stack([j[coupled], k[coupled]], 1).astype(np.int64)

    def fewest_qubits(self, num_spins: int) -> int:
        """Qubits without which no processor holds a problem of so many spins.

        The largest clique of Zephyr and Pegasus graphs has four qubits, so n > 4 spins that are
        all coupled take at least 2n - 4.
        """
        return num_spins if self.width is not None else max(num_spins, 2 * num_spins - 4)

    @property
    def name(self) -> str:
        """A short name: K9, or band16w4, and band16w4g with a ghost spin, for 16 band spins."""
        if self.width is None:
            return f"K{self.num_spins}"
        return f"band{self.num_spins - self.carrier}w{self.width}{'g' * self.carrier}"

    def describe(self) -> str:
        """The pattern in words."""
        if self.width is None:
            return f"cliques of {self.num_spins} spins"
        carried = " and a spin that carries their fields" if self.carrier else ""
        return f"bands of width {self.width} of {self.num_spins - self.carrier} spins{carried}"
