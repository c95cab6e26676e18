r"""The attention pattern alone: couplings, biases and β for queries and keys of another module."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from qattn.attention.function import weights_of_call
from qattn.attention.masks import leading
from qattn.backends import Backend
from qattn.ising.precision import at_least_single
from qattn.layers.beta import Beta
from qattn.layers.coupled import WithCouplings


class IsingPattern(WithCouplings):
    r"""Boltzmann attention of given queries, keys and values, with parameters of its own.

    What :class:`BoltzmannAttention` is without its projections: the part that a model of another
    library gets, whose queries and keys stay as they are.

    .. math::
        h_{ij} = \tfrac12(q_i \cdot k_j/\sqrt d + b), \qquad
        w_{ij} = \tfrac12(1 + \langle s_j \rangle_i), \qquad o_i = \sum_j w_{ij} v_j

    Args:
        num_heads: Number of heads of queries.
        context: Largest number of positions.
        normalize: Divide by the sum of a query's weights.
        beta: Inverse temperature: a number, or "learnable" for one of each head.
        couplings: The structure of J; `options` are those of it, as in :class:`BoltzmannAttention`.
        interaction: What J acts between.
        backend: Where ⟨s⟩ comes from: a backend or the name of one; "exact" needs no reads.
        num_reads: Reads per query of a sampling backend.
        estimator: How reads become ⟨s⟩ and its gradients.
        moments: How ⟨s⟩ is computed without reads.
        options: Of the structure.

    >>> pattern = IsingPattern(num_heads=2, context=5, couplings="banded", width=1)
    >>> query, key, value = torch.randn(3, 1, 2, 4, 8).unbind(0)
    >>> output, weights = pattern(query, key, value, is_causal=True)
    >>> output.shape, weights.shape
    (torch.Size([1, 2, 4, 8]), torch.Size([1, 2, 4, 4]))
    """

    has_transition = False  # its scores are another module's: there is no input to set β by

    def __init__(
        self,
        num_heads: int,
        context: int,
        *,
        normalize: bool = False,
        beta: Beta = 1.0,
        couplings: str = "dense",
        interaction: str = "spin",
        backend: str | Backend = "exact",
        num_reads: int = 100,
        estimator: str | None = None,
        moments: str = "exact",
        **options: Any,
    ) -> None:
        super().__init__()
        self.num_heads, self.context, self.normalize = num_heads, context, normalize
        self.field_bias = nn.Parameter(torch.full((num_heads,), -math.log(context)))
        self._start_beta(beta, num_heads)
        self._start_couplings(
            num_heads,
            context,
            0,
            couplings=couplings,
            interaction=interaction,
            backend=backend,
            num_reads=num_reads,
            estimator=estimator,
            moments=moments,
            **options,
        )

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        nn.init.constant_(self.field_bias, -math.log(self.context))
        if isinstance(self._beta, str):
            nn.init.zeros_(self.log_beta)
        self._reset_couplings()

    def extra_repr(self) -> str:
        """The settings."""
        return f"num_heads={self.num_heads}, context={self.context}{self._shown_couplings()}"

    def forward(
        self,
        query: Float[Tensor, "batch heads queries head_dim"],
        key: Float[Tensor, "batch key_heads positions head_dim"],
        value: Float[Tensor, "batch key_heads positions value_dim"],
        attn_mask: Bool[Tensor, "*mask queries positions"]
        | Float[Tensor, "*mask queries positions"]
        | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        rows: Int[Tensor, "#batch positions"] | None = None,
    ) -> tuple[
        Float[Tensor, "batch heads queries value_dim"],
        Float[Tensor, "batch heads queries positions"],
    ]:
        """Output and weights; arguments as those of :func:`qattn.boltzmann_attention`.

        Positions have the first rows of J where `rows` are not given. With fewer heads of keys
        than of queries, each is for as many successive heads of queries.
        """
        couplings = self._couplings(None, self.context)
        if rows is None:
            couplings = leading(couplings, key.shape[2])
        weights, info = weights_of_call(
            query,
            key,
            couplings,
            attn_mask=attn_mask,
            is_causal=is_causal,
            scale=scale,
            enable_gqa=True,
            rows=rows,
            interaction=self.interaction,
            field_bias=at_least_single(self.field_bias),
            position_bias=None,
            beta=self.beta,
            normalize=self.normalize,
            backend=self.backend,
            num_reads=self.num_reads,
            estimator=self.estimator,
            moments=self.moments,
            validate=False,
        )
        self._noted(info)
        dropped = F.dropout(weights, dropout_p) if dropout_p else weights
        value = value.repeat_interleave(query.shape[1] // value.shape[1], 1)
        return dropped.to(value.dtype) @ value, weights

    def _models_before_beta(self, x: Tensor) -> Tensor:
        raise NotImplementedError
