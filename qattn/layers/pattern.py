r"""The attention pattern alone: couplings, biases and β for queries and keys of another module."""

import math
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from qattn.attention.function import weights_of_call
from qattn.attention.masks import leading, split_mask
from qattn.attention.scores import weighted
from qattn.backends import Backend
from qattn.couplings import Couplings
from qattn.ising.precision import at_least_single
from qattn.layers.beta import Beta
from qattn.layers.coupled import WithCouplings
from qattn.layers.multihead import uncompiled
from qattn.layers.position_bias import position_bias as bias_of_last_queries
from qattn.layers.position_bias import unbiased

Mask = Bool[Tensor, "*mask #queries #positions"] | Float[Tensor, "*mask #queries #positions"]


class IsingPattern(WithCouplings):
    r"""Boltzmann attention of given queries, keys and values, with parameters of its own.

    What :class:`BoltzmannAttention` is without its projections: the part that a model of another
    library gets, whose queries and keys stay as they are.

    .. math::
        h_{ij} = \tfrac12(q_i \cdot k_j/\sqrt d + b + c_{|r_i - r_j|}), \qquad
        w_{ij} = \tfrac12(1 + \langle s_j \rangle_i), \qquad o_i = \sum_j w_{ij} v_j

    with ⟨s⟩ from :math:`p_i(s) \propto \exp(\beta(\sum_j h_{ij} s_j + \sum_{j<k} J_{jk} s_j s_k))`
    and c the position bias, if there is one.

    Args:
        num_heads: Number of heads of queries.
        context: Largest number of positions: the rows of J.
        normalize: Divide by the sum of a query's weights.
        position_bias: "none"; or "relative", a number for each head and distance of a query's row
            from a position's, 0 at the start: the control that couplings are compared with.
        beta: Inverse temperature: a number, or "learnable" for one of each head.
        couplings: The structure of J: "dense", "banded", "low_rank", "block" or "cardinality".
        interaction: What J acts between, "spin", "occupation" or "field": see
            :func:`qattn.boltzmann_attention`.
        backend: Where ⟨s⟩ comes from: a backend or the name of one; "exact" needs no reads.
        num_reads: Reads per query of a sampling backend.
        estimator: How reads become ⟨s⟩ and its gradients; None for the backend's default.
        moments: How ⟨s⟩ is computed without reads: "exact", or a mean-field method.
        device: Where parameters are made; None means PyTorch's default.
        dtype: Their dtype; None means PyTorch's default.
        options: Of the structure: `width`, `sign`, `block_size`, `max_count`, `competitive`,
            `relative`, `constraint` and `std`, as those of :class:`BoltzmannAttention`.

    Raises:
        ValueError: A number is out of range, there is no such structure, interaction, bias, backend
            or estimator, or the structure does not take an option; `content` and a critical β are
            refused, since both need the input that queries and keys were made of.
        TypeError: There is no such option.
        ImportError: A package that the backend needs is missing.

    Attributes:
        last_info: What the backend reported about the reads of the last pass, as that of
            :class:`BoltzmannAttention`; the settings of backend and β may be set between passes.

    >>> pattern = IsingPattern(num_heads=2, context=5, couplings="banded", width=1)
    >>> query, key, value = torch.randn(3, 1, 2, 4, 8).unbind(0)
    >>> output, weights = pattern(query, key, value, is_causal=True)
    >>> output.shape, weights.shape
    (torch.Size([1, 2, 4, 8]), torch.Size([1, 2, 4, 4]))
    """

    has_transition = False
    no_transition = "is given queries and keys, and no input on which a critical one can be found"

    def __init__(
        self,
        num_heads: int,
        context: int,
        *,
        normalize: bool = False,
        position_bias: str = "none",
        beta: Beta = 1.0,
        couplings: str = "dense",
        interaction: str = "spin",
        backend: str | Backend = "exact",
        num_reads: int = 100,
        estimator: str | None = None,
        moments: str = "exact",
        device: Device = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        for name, number in {"num_heads": num_heads, "context": context}.items():
            if number < 1:
                raise ValueError(f"Argument `{name}` must be positive, but is {number}.")
        if options.get("content"):
            raise ValueError(
                "Argument `content` must be left out here, but is True: such couplings are made of "
                "the input x, and a pattern is given its queries and keys. Take BoltzmannAttention."
            )
        if position_bias == "absolute":
            raise ValueError(
                "Argument `position_bias` must be 'none' or 'relative' here, but is 'absolute': "
                "queries need not be positions. Add numbers by query and position with `attn_mask`."
            )
        self.num_heads, self.context, self.normalize = num_heads, context, normalize
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.position_bias = position_bias
        if (bias := unbiased(position_bias, num_heads, context)) is not None:
            self.position_bias_values = nn.Parameter(bias.to(**factory))
        self.field_bias = nn.Parameter(torch.full((num_heads,), -math.log(context), **factory))
        self._start_beta(beta, num_heads, **factory)
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
            **factory,
            **options,
        )

    def reset_parameters(self) -> None:
        """Draw all parameters anew, for a pattern that was made on the meta device, say."""
        nn.init.constant_(self.field_bias, -math.log(self.context))
        if self.position_bias != "none":
            nn.init.zeros_(self.position_bias_values)
        if isinstance(self._beta, str):
            nn.init.zeros_(self.log_beta)
        self._reset_couplings()

    def extra_repr(self) -> str:
        """The settings."""
        more = f", normalize={self.normalize}" if self.normalize else ""
        more += "" if self.position_bias == "none" else f", position_bias={self.position_bias!r}"
        more += "" if self._beta == 1.0 else f", beta={self._beta!r}"
        return f"num_heads={self.num_heads}, context={self.context}{more}{self._shown_couplings()}"

    def forward(
        self,
        query: Float[Tensor, "batch heads queries head_dim"],
        key: Float[Tensor, "batch key_heads positions head_dim"],
        value: Float[Tensor, "batch key_heads positions value_dim"],
        attn_mask: Mask | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        rows: Int[Tensor, "#batch positions"] | Int[Tensor, " positions"] | None = None,
        query_rows: Int[Tensor, "#batch queries"] | Int[Tensor, " queries"] | None = None,
    ) -> tuple[
        Float[Tensor, "batch heads queries value_dim"],
        Float[Tensor, "batch heads queries positions"],
    ]:
        """Output, and the weights as they are before dropout, in float32 at least.

        Arguments are as those of :func:`qattn.boltzmann_attention`. Positions have the first rows
        of J where `rows` are not given. `query_rows` are where the queries stand, for the position
        bias: None means that they are the last positions. Distances beyond those that the bias has
        numbers for count as its largest. With fewer heads of keys than of queries, each is for as
        many successive heads of queries.

        Raises:
            ValueError: Shapes do not go together, or there are more positions than `context`.
        """
        if query.ndim != 4 or query.shape[1] != self.num_heads:
            raise ValueError(
                f"Argument `query` must have shape (batch, num_heads = {self.num_heads}, queries, "
                f"head_dim), but has shape {tuple(query.shape)}."
            )
        if rows is None and key.shape[-2] > self.context:
            raise ValueError(
                f"Argument `key` must have at most context = {self.context} positions, "
                f"but has {key.shape[-2]}."
            )
        find = self._weights if self._is_traceable() else partial(uncompiled, self._weights)
        weights: Tensor = find(query, key, attn_mask, is_causal, scale, rows, query_rows)
        dropped = F.dropout(weights, dropout_p) if dropout_p else weights
        return weighted(dropped, value), weights

    def _weights(
        self,
        query: Tensor,
        key: Tensor,
        attn_mask: Tensor | None,
        is_causal: bool,
        scale: float | None,
        rows: Tensor | None,
        query_rows: Tensor | None,
    ) -> Tensor:
        bias = None
        if self.position_bias != "none":
            bias = self._bias(query.shape[2], key.shape[2], rows, query_rows)
            if len(bias) > 1:  # a bias of its own for each sequence goes with the mask
                present, added = split_mask(attn_mask)
                attn_mask = bias if added is None else bias + added
                if present is not None:
                    attn_mask = torch.where(present, attn_mask, -torch.inf)
            bias = bias[0] if len(bias) == 1 else None
        couplings = self._seen_couplings()
        weights, info = weights_of_call(
            query,
            key,
            couplings if rows is not None else leading(couplings, key.shape[2]),
            attn_mask=attn_mask,
            is_causal=is_causal,
            scale=scale,
            enable_gqa=True,
            rows=rows,
            interaction=self.interaction,
            field_bias=at_least_single(self.field_bias),
            position_bias=bias,
            beta=self.beta,
            normalize=self.normalize,
            backend=self.backend,
            num_reads=self.num_reads,
            estimator=self.estimator,
            moments=self.moments,
            validate=False,  # J is symmetric, and β was checked when it was set
        )
        self._noted(info)
        return weights

    def _seen_couplings(self) -> Tensor | Couplings:
        """The couplings of all rows, between positions that a query can see together."""
        return self._couplings(None, self.context)

    def _bias(
        self, num_queries: int, num_positions: int, rows: Tensor | None, query_rows: Tensor | None
    ) -> Float[Tensor, "#batch heads queries positions"]:
        """The bias of queries at positions, by the distance of their rows."""
        values = at_least_single(self.position_bias_values)
        if query_rows is None and num_queries > num_positions:
            raise ValueError(
                f"Argument `query_rows` must be given for the position bias of more queries than "
                f"positions, but is None: there are {num_queries} and {num_positions}."
            )
        if rows is None and query_rows is None:
            return bias_of_last_queries(values, num_queries, num_positions)[None]
        if rows is None:
            rows = torch.arange(num_positions, device=values.device)
        if query_rows is None:
            query_rows = rows[..., num_positions - num_queries :]
        distance = (query_rows.unsqueeze(-1) - rows.unsqueeze(-2)).abs()
        distance = distance.clamp(max=self.context - 1).reshape(-1, num_queries, num_positions)
        return values[:, distance].transpose(0, 1)
