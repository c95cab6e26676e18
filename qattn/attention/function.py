r"""Boltzmann attention as a function: the counterpart of ``F.scaled_dot_product_attention``."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from qattn._tracing import is_traced
from qattn.attention.call import check_call, check_value, prepared
from qattn.attention.masks import causal_lengths, with_lengths
from qattn.attention.models import (
    check_interaction,
    masked_weights_and_info,
    weights_and_info,
)
from qattn.attention.scores import scores, weighted
from qattn.backends import Backend
from qattn.couplings import Couplings
from qattn.ising.checks import check_beta, checked_couplings
from qattn.ising.precision import at_least_single, without_autocast
from qattn.mean_field import warn_if_failed


def boltzmann_attention(
    query: Float[Tensor, "*batch query_heads queries head_dim"],
    key: Float[Tensor, "*keybatch key_heads positions head_dim"],
    value: Float[Tensor, "*valuebatch value_heads positions value_dim"],
    couplings: Float[Tensor, "*groups rows rows"] | Couplings,
    *,
    attn_mask: Bool[Tensor, "*mask"] | Float[Tensor, "*mask"] | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    rows: Int[Tensor, "*rowsbatch positions"] | None = None,
    interaction: str = "spin",
    field_bias: Float[Tensor, "*heads"] | float | None = None,
    position_bias: Float[Tensor, "bias_heads queries positions"] | None = None,
    beta: float | Tensor = 1.0,
    normalize: bool = False,
    backend: str | Backend = "exact",
    num_reads: int = 100,
    estimator: str | None = None,
    moments: str = "exact",
    validate: bool = True,
) -> Float[Tensor, "*out all_heads queries value_dim"]:
    r"""Attention whose pattern is an Ising model with learnable couplings between positions.

    The pattern of query :math:`i` is a configuration of spins :math:`s_j = \pm 1` (attend to
    position j or not) with

    .. math::
        p_i(s) \propto \exp\Big(\beta\big(\sum_j h_{ij} s_j + \sum_{j<k} J_{jk} s_j s_k\big)\Big),
        \qquad h_{ij} = \tfrac12\Big(\frac{q_i \cdot k_j}{\sqrt{d}} + b\Big),

    .. math::
        w_{ij} = \tfrac12(1 + \langle s_j \rangle_i) \in [0, 1], \qquad o_i = \sum_j w_{ij} v_j .

    With ``couplings`` = 0 and β = 1, w is exactly sigmoid(q·k/√d + b): sigmoid attention.

    The call is that of ``F.scaled_dot_product_attention`` with the couplings added. What differs:
    a masked position is an absent spin, in a smaller model; with fewer queries than positions
    ``is_causal`` is aligned to the last ones, as decoding with a cache needs it, where PyTorch
    aligns it to the first.

    Args:
        query: Shape (…, heads, queries, head_dim): any number of batch axes, or none.
        key: Shape (…, heads, positions, head_dim), batch axes like those of `query` or of length 1.
        value: Shape (…, heads, positions, value_dim).
        couplings: J, shape (heads, positions, positions), symmetric with zero diagonal; positive
            is cooperative. Of shape (1, …) or without the first axis it is that of all heads. Or a
            structure of :mod:`qattn.couplings` with a group for each head, or for each head of
            each sequence (sequence by sequence), which is exact at lengths at which a dense J
            cannot be enumerated.
        attn_mask: Broadcasts to (…, heads, queries, positions). True where a query attends;
            elsewhere a position is an absent spin. Or numbers that are added to the scores; where
            they are -∞ (or the lowest number of their dtype) a position is absent. A query without
            any position has weights and output 0.
        dropout_p: Probability with which each weight is set to 0, the others being scaled up.
        is_causal: Query i attends to positions j ≤ i only: a smaller Ising model, not a masked
            one. Fewer queries than positions are the last ones: of Q queries and n positions,
            query i attends to j ≤ n - Q + i, so that a sequence can be decoded query by query.
        scale: Factor of q·k; None means 1/√head_dim.
        enable_gqa: Keys and values have fewer heads than queries, each for as many successive
            heads of queries. Couplings and biases are those of the heads of queries.
        rows: The row of J that each position has, shape (positions,), or (…, positions) where
            sequences differ; None means 0, 1, …. So J belongs to positions of the text, wherever a
            cache, or padding, puts their keys. With it J may have more rows than positions.
        interaction: What J acts between. "spin": Σ J_jk s_j s_k, as above. "occupation":
            Σ 4 J_jk n_j n_k with n = (1 + s)/2, the same with fields h_ij + Σ_k J_jk over the
            positions k that query i sees: no pull on a spin whose partners are down. "field":
            h_ij - Σ_k J_jk and no interaction: what "spin" does to a spin whose partners are all
            down, a bias of position, and the control of it.
        field_bias: b, one number or one per head; None means 0.
        position_bias: Added to the scores q·k/√d + b, shape (heads or 1, queries, positions).
        beta: Inverse temperature, one number or one per head.
        normalize: Divide by Σ_j w_ij, so that the weights of a query sum to one.
        backend: Where ⟨s⟩ comes from: a backend or the name of one; "exact" needs no reads.
        num_reads: Reads per query of a sampling backend.
        estimator: How reads become ⟨s⟩ and its gradients, one of
            :func:`qattn.estimators.available_estimators`; None means the exact gradient for
            "exact" and "callen" for other backends.
        moments: How ⟨s⟩ is computed without reads: "exact", or a mean-field method of
            :mod:`qattn.mean_field` ("mean-field", "tap", "adaptive-tap", "bethe"), which knows no
            limit of positions for weak couplings of any structure but "cardinality".
        validate: Check that couplings are finite and symmetric; off inside ``torch.func.vmap``.

    Returns:
        Output, shape (batch, heads, queries, value_dim), in the dtype of `value`. Inputs of half
        precision are computed with in float32, under ``torch.autocast`` too.
        :func:`boltzmann_weights` returns w.

    Raises:
        ValueError: A shape does not fit, couplings are asymmetric or not finite, or the
            interaction does not go with them. A query or key that is not finite makes the outputs
            NaN that depend on it.
        TypeError: One of `query` and `couplings` is float64 and the other is not.
        MemoryError: More positions than exact enumeration of a dense J can hold; see `moments`.

    Warns:
        NotConvergedWarning: Some queries have no mean-field solution that can be trusted.

    Source: Kim and Park, "Boltzmann Attention", arXiv 2606.12478.

    Without couplings and with the default β it is sigmoid attention:

    >>> query, key, value = torch.ones(3, 1, 2, 4, 6)  # 1 sequence, 2 heads, 4 positions
    >>> out = boltzmann_attention(query, key, value, couplings=torch.zeros(2, 4, 4))
    >>> out.shape
    torch.Size([1, 2, 4, 6])
    >>> torch.allclose(out, 4 * torch.tensor(6**0.5).sigmoid())
    True

    Couplings between neighbours, exact at any number of positions:

    >>> from qattn.couplings import Banded
    >>> chain = Banded.relative(torch.full((2, 1), 0.5), num_spins=4)
    >>> boltzmann_attention(query, key, value, couplings=chain).shape
    torch.Size([1, 2, 4, 6])
    """
    check_value(value, query, key, enable_gqa)
    if not 0 <= dropout_p <= 1:
        raise ValueError(f"Argument `dropout_p` must lie between 0 and 1, but is {dropout_p}.")
    weights = boltzmann_weights(
        query,
        key,
        couplings,
        attn_mask=attn_mask,
        is_causal=is_causal,
        scale=scale,
        enable_gqa=enable_gqa,
        rows=rows,
        interaction=interaction,
        field_bias=field_bias,
        position_bias=position_bias,
        beta=beta,
        normalize=normalize,
        backend=backend,
        num_reads=num_reads,
        estimator=estimator,
        moments=moments,
        validate=validate,
    )
    if dropout_p:
        weights = F.dropout(weights, dropout_p)
    return weighted(weights, value)


def boltzmann_weights(
    query: Float[Tensor, "*batch query_heads queries head_dim"],
    key: Float[Tensor, "*keybatch key_heads positions head_dim"],
    couplings: Float[Tensor, "*groups rows rows"] | Couplings,
    *,
    attn_mask: Bool[Tensor, "*mask"] | Float[Tensor, "*mask"] | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    rows: Int[Tensor, "*rowsbatch positions"] | None = None,
    interaction: str = "spin",
    field_bias: Float[Tensor, "*heads"] | float | None = None,
    position_bias: Float[Tensor, "bias_heads queries positions"] | None = None,
    beta: float | Tensor = 1.0,
    normalize: bool = False,
    backend: str | Backend = "exact",
    num_reads: int = 100,
    estimator: str | None = None,
    moments: str = "exact",
    validate: bool = True,
) -> Float[Tensor, "*out all_heads queries positions"]:
    """The weights w of :func:`boltzmann_attention`; 0 at positions that a query cannot see.

    In float32, or in float64 if `query` is.
    """
    weights, info = weights_of_call(
        query,
        key,
        couplings,
        attn_mask=attn_mask,
        is_causal=is_causal,
        scale=scale,
        enable_gqa=enable_gqa,
        rows=rows,
        interaction=interaction,
        field_bias=field_bias,
        position_bias=position_bias,
        beta=beta,
        normalize=normalize,
        backend=backend,
        num_reads=num_reads,
        estimator=estimator,
        moments=moments,
        validate=validate,
    )
    if "report" in info:
        warn_if_failed(info["report"], moments)
    return weights


def weights_of_call(
    query: Tensor,
    key: Tensor,
    couplings: Tensor | Couplings,
    *,
    attn_mask: Tensor | None,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
    rows: Tensor | None,
    interaction: str,
    field_bias: Tensor | float | None,
    position_bias: Tensor | None,
    beta: float | Tensor,
    normalize: bool,
    backend: str | Backend,
    num_reads: int,
    estimator: str | None,
    moments: str,
    validate: bool,
) -> tuple[Tensor, Mapping[str, Any]]:
    """The weights of a call, and the `info` of what is not exact about them."""
    call = prepared(query, key, couplings, attn_mask, position_bias, rows, enable_gqa)
    query, key, couplings = call.query, call.key, call.couplings
    heads, queries = query.shape[1:3]
    check_call(call, field_bias, is_causal, beta)
    check_interaction(interaction, getattr(couplings, "kind", "dense"))
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    with without_autocast(query.device):
        query, key = at_least_single(query), at_least_single(key)
        couplings = couplings.to(torch.promote_types(couplings.dtype, torch.float32))
        if couplings.dtype != query.dtype:
            raise TypeError(
                f"Arguments `query` and `couplings` must both be float64, or neither, but are "
                f"{query.dtype} and {couplings.dtype}."
            )
        if validate and not is_traced(query):
            # Fields are not checked: NaN in one sequence stays there, as in PyTorch's attention.
            couplings = checked_couplings(couplings)
            check_beta(beta)
        if field_bias is not None:
            field_bias = torch.as_tensor(field_bias, dtype=query.dtype, device=query.device)
        fields = scores(query, key, scale, field_bias, call.position_bias, factor=0.5)
        options: dict[str, Any] = {
            "interaction": interaction,
            "beta": beta,
            "normalize": normalize,
            "moments": moments,
        }
        lengths = causal_lengths(is_causal, queries, key.shape[2])
        source = backend, num_reads, estimator
        if call.mask is None and call.rows is None:
            found = weights_and_info(fields, couplings, *source, lengths=lengths, **options)
        else:
            mask = with_lengths(call.mask, lengths, key.shape[2], query.device)
            found = masked_weights_and_info(
                fields, couplings, *source, mask=mask, rows=call.rows, **options
            )
        weights, info = found
        weights = weights.expand(call.num_sequences, -1, -1, -1)
        return weights.reshape(*call.batch, heads, queries, -1), info
