"""Reads of an Ising batch as a backend returned them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int8
from torch import Tensor

from qattn.field_encoding import FieldEncoding
from qattn.ising.batch import counted


@dataclass(frozen=True, eq=False, repr=False)
class SpinSamples:
    r"""Reads of every query of an :class:`~qattn.IsingBatch`.

    Weighted estimates use :math:`\bar f = \sum_r w_r f(s_r) / \sum_r w_r`.

    Args:
        spins: Values in {-1, +1}, and 0 at absent spins; shape (groups, queries, reads, spins),
            int8.
        weights: How much each read counts (dimod's ``num_occurrences``, for example), shape
            (groups, queries, reads), not negative; None means 1 each.
        info: What else the backend reports (timing, settings).

    Raises:
        ValueError: A shape is wrong.
        TypeError: `spins` is not int8.

    Two reads of one query of two spins:

    >>> samples = SpinSamples(torch.tensor([[[[1, 1], [1, -1]]]], dtype=torch.int8))
    >>> samples.num_reads
    2
    >>> samples.mean_spins()
    tensor([[[1., 0.]]])
    """

    spins: Int8[Tensor, "groups queries reads spins"]
    weights: Float[Tensor, "groups queries reads"] | None = None
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.spins.ndim != 4:
            raise ValueError(
                f"Argument `spins` must have shape (groups, queries, reads, spins), "
                f"but has shape {tuple(self.spins.shape)}."
            )
        if self.spins.dtype != torch.int8:
            raise TypeError(f"Argument `spins` must be int8, but is {self.spins.dtype}.")
        if self.weights is not None and self.weights.shape != self.spins.shape[:3]:
            raise ValueError(
                f"Argument `weights` must have shape {tuple(self.spins.shape[:3])} to match "
                f"`spins`, but has shape {tuple(self.weights.shape)}."
            )

    def __repr__(self) -> str:
        """What it is, in a line."""
        groups, queries, reads, spins = self.spins.shape
        parts = [
            counted(groups, "group"),
            counted(queries, "query", "queries"),
            counted(reads, "read" if self.weights is None else "weighted read"),
            counted(spins, "spin"),
        ]
        if self.info:
            parts.append(f"info: {', '.join(self.info)}")
        return f"SpinSamples({', '.join(parts)})"

    @property
    def num_reads(self) -> int:
        """Number of rows per query; with weights, not the number of occurrences."""
        return self.spins.shape[2]

    def counts(self, dtype: torch.dtype = torch.float64) -> Float[Tensor, "groups queries"]:
        """Number of reads of each query: the sum of the weights, if there are weights."""
        if self.weights is None:
            shape = self.spins.shape[:2]
            return torch.full(shape, self.num_reads, dtype=dtype, device=self.spins.device)
        return self.weights.to(dtype).sum(-1)

    def effective_counts(self) -> Float[Tensor, "groups queries"]:
        r"""Number of independent reads with the noise of these: at most :meth:`counts`.

        Weights that are whole numbers count equal reads. Others, those of importance sampling, make
        it Kish's (Σ_r w_r)² / Σ_r w_r².

        >>> spins = torch.ones(1, 1, 2, 3, dtype=torch.int8)
        >>> SpinSamples(spins, torch.tensor([[[1.5, 0.5]]])).effective_counts()
        tensor([[1.6000]], dtype=torch.float64)
        """
        counts = self.counts()
        if self.weights is None or bool((self.weights == self.weights.round()).all()):
            return counts
        return counts.square() / self.weights.double().square().sum(-1)

    def normalized_weights(
        self, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "groups queries reads"]:
        """Weights that sum to one over the reads of each query."""
        if self.weights is None:
            shape = self.spins.shape[:3]
            return torch.full(shape, 1 / shape[2], dtype=dtype, device=self.spins.device)
        weights = self.weights.to(dtype)
        return weights / weights.sum(-1, keepdim=True)

    def mean_spins(
        self, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "groups queries spins"]:
        r"""Estimate of ⟨s_j⟩ from the reads; 0 at absent spins."""
        weights = self.normalized_weights(dtype).unsqueeze(2)
        return (weights @ self.spins.to(dtype)).squeeze(2)

    def pair_correlations(
        self, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "groups queries spins spins"]:
        r"""Estimate of ⟨s_j s_k⟩ from the reads; diagonal 1, and 0 where a spin is absent."""
        spins = self.spins.to(dtype)
        return (spins * self.normalized_weights(dtype).unsqueeze(-1)).mT @ spins

    def without_ghost_spin(self, num_groups: int) -> "SpinSamples":
        r"""Reads s_0·s_j of the original models from reads of ``batch.with_ghost_spin()``.

        Args:
            num_groups: Number of groups of the original batch, ``batch.num_groups``.

        Raises:
            ValueError: The reads are not those of a batch with a ghost spin and `num_groups`.
        """
        problems, queries, reads, n = self.spins.shape
        if queries != 1 or n < 2 or num_groups < 1 or problems % num_groups:
            raise ValueError(
                f"Argument `num_groups` must divide the problems of a batch with a ghost spin, "
                f"but is {num_groups} for spins of shape {tuple(self.spins.shape)}."
            )
        spins = FieldEncoding.GHOST.decode_spins(self.spins)
        weights = self.weights
        if weights is not None:
            weights = weights.view(num_groups, -1, reads)
        return SpinSamples(spins.view(num_groups, -1, reads, n - 1), weights, self.info)
