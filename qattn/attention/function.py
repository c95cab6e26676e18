r"""Boltzmann attention as a function: the counterpart of ``F.scaled_dot_product_attention``."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from qattn._tracing import is_traced
from qattn.attention.models import check_interaction, scores, weights_and_info
from qattn.backends import Backend
from qattn.couplings import Couplings
from qattn.ising.checks import check_beta, checked_couplings
from qattn.ising.precision import at_least_single, without_autocast
from qattn.mean_field import warn_if_failed


def boltzmann_attention(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch heads positions head_dim"],
    value: Float[Tensor, "batch heads positions value_dim"],
    couplings: Float[Tensor, "heads positions positions"] | Couplings,
    *,
    is_causal: bool = True,
    interaction: str = "spin",
    field_bias: Float[Tensor, " heads"] | float | None = None,
    position_bias: Float[Tensor, "#heads queries positions"] | None = None,
    beta: float | Tensor = 1.0,
    normalize: bool = False,
    scale: float | None = None,
    backend: str | Backend = "exact",
    num_reads: int = 100,
    estimator: str | None = None,
    moments: str = "exact",
    validate: bool = True,
) -> Float[Tensor, "batch heads queries value_dim"]:
    r"""Attention whose pattern is an Ising model with learnable couplings between positions.

    The pattern of query :math:`i` is a configuration of spins :math:`s_j = \pm 1` (attend to
    position j or not) with

    .. math::
        p_i(s) \propto \exp\Big(\beta\big(\sum_j h_{ij} s_j + \sum_{j<k} J_{jk} s_j s_k\big)\Big),
        \qquad h_{ij} = \tfrac12\Big(\frac{q_i \cdot k_j}{\sqrt{d}} + b\Big),

    .. math::
        w_{ij} = \tfrac12(1 + \langle s_j \rangle_i) \in [0, 1], \qquad o_i = \sum_j w_{ij} v_j .

    With ``couplings`` = 0 and β = 1, w is exactly sigmoid(q·k/√d + b): sigmoid attention.

    Args:
        query: Shape (batch, heads, queries, head_dim).
        key: Shape (batch, heads, positions, head_dim).
        value: Shape (batch, heads, positions, value_dim).
        couplings: J, shape (heads, positions, positions), symmetric with zero diagonal; positive
            is cooperative. Or a structure of :mod:`qattn.couplings` with a group for each head,
            or for each head of each sequence (sequence by sequence), which is exact at lengths at
            which a dense J cannot be enumerated.
        is_causal: Query i attends to positions j ≤ i only: a smaller Ising model, not a masked
            one. Fewer queries than positions are the last ones: of Q queries and n positions,
            query i attends to j ≤ n - Q + i, so that a sequence can be decoded query by query.
        interaction: What J acts between. "spin": Σ J_jk s_j s_k, as above. "occupation":
            Σ 4 J_jk n_j n_k with n = (1 + s)/2, the same with fields h_ij + Σ_k J_jk over the
            positions k that query i sees: no pull on a spin whose partners are down. "field":
            h_ij - Σ_k J_jk and no interaction: what "spin" does to a spin whose partners are all
            down, a bias of position, and the control of it.
        field_bias: b, one number or one per head; None means 0.
        position_bias: Added to the scores q·k/√d + b, shape (heads or 1, queries, positions).
        beta: Inverse temperature, one number or one per head.
        normalize: Divide by Σ_j w_ij, so that the weights of a query sum to one.
        scale: Factor of q·k; None means 1/√head_dim.
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
    >>> torch.allclose(out[0, 0, 2], 3 * torch.tensor(6**0.5).sigmoid())  # positions 0, 1, 2
    True

    Couplings between neighbours, exact at any number of positions:

    >>> from qattn.couplings import Banded
    >>> chain = Banded.relative(torch.full((2, 1), 0.5), num_spins=4)
    >>> boltzmann_attention(query, key, value, couplings=chain).shape
    torch.Size([1, 2, 4, 6])
    """
    if value.ndim != 4 or value.shape[:3] != key.shape[:3]:
        raise ValueError(
            f"Argument `value` must have shape (batch, heads, positions, value_dim) like `key` "
            f"{tuple(key.shape)}, but has shape {tuple(value.shape)}."
        )
    weights = boltzmann_weights(
        query,
        key,
        couplings,
        is_causal=is_causal,
        interaction=interaction,
        field_bias=field_bias,
        position_bias=position_bias,
        beta=beta,
        normalize=normalize,
        scale=scale,
        backend=backend,
        num_reads=num_reads,
        estimator=estimator,
        moments=moments,
        validate=validate,
    )
    return weights.to(value.dtype) @ value


def boltzmann_weights(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch heads positions head_dim"],
    couplings: Float[Tensor, "heads positions positions"] | Couplings,
    *,
    is_causal: bool = True,
    interaction: str = "spin",
    field_bias: Float[Tensor, " heads"] | float | None = None,
    position_bias: Float[Tensor, "#heads queries positions"] | None = None,
    beta: float | Tensor = 1.0,
    normalize: bool = False,
    scale: float | None = None,
    backend: str | Backend = "exact",
    num_reads: int = 100,
    estimator: str | None = None,
    moments: str = "exact",
    validate: bool = True,
) -> Float[Tensor, "batch heads queries positions"]:
    """The weights w of :func:`boltzmann_attention`; 0 at positions that a query cannot see.

    In float32, or in float64 if `query` is.
    """
    _check_query_and_key(query, key, couplings, is_causal)
    _check_biases(field_bias, position_bias, query, key)
    if isinstance(beta, Tensor) and beta.shape not in ((), (heads := query.shape[1],)):
        raise ValueError(
            f"Argument `beta` must be a number or have shape () or (heads,) = ({heads},), "
            f"but has shape {tuple(beta.shape)}."
        )
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
        fields = scores(query, key, scale, field_bias, position_bias, factor=0.5)
        weights, info = weights_and_info(
            fields,
            couplings,
            backend,
            num_reads,
            estimator,
            is_causal=is_causal,
            interaction=interaction,
            beta=beta,
            normalize=normalize,
            moments=moments,
        )
        if "report" in info:
            warn_if_failed(info["report"], moments)
        return weights


def _check_biases(
    field_bias: Tensor | float | None, position_bias: Tensor | None, query: Tensor, key: Tensor
) -> None:
    if isinstance(field_bias, Tensor) and field_bias.numel() not in (1, query.shape[1]):
        raise ValueError(
            f"Argument `field_bias` must be a number or have shape (heads,) = "
            f"({query.shape[1]},), but has shape {tuple(field_bias.shape)}."
        )
    shapes = [(heads, query.shape[2], key.shape[2]) for heads in (query.shape[1], 1)]
    if position_bias is not None and tuple(position_bias.shape) not in shapes:
        raise ValueError(
            f"Argument `position_bias` must have shape (heads, queries, positions) = {shapes[0]}, "
            f"or 1 for all heads, but has shape {tuple(position_bias.shape)}."
        )


def _check_query_and_key(
    query: Tensor, key: Tensor, couplings: Tensor | Couplings, is_causal: bool
) -> None:
    if query.ndim != 4:
        raise ValueError(
            f"Argument `query` must have shape (batch, heads, queries, head_dim), "
            f"but has shape {tuple(query.shape)}."
        )
    if key.ndim != 4 or key.shape[:2] != query.shape[:2] or key.shape[3] != query.shape[3]:
        raise ValueError(
            f"Argument `key` must have shape (batch, heads, positions, head_dim) like `query` "
            f"{tuple(query.shape)}, but has shape {tuple(key.shape)}."
        )
    if 0 in query.shape[:3] or key.shape[2] == 0:
        raise ValueError(
            f"Arguments `query` and `key` must have at least 1 sequence, head, query and position, "
            f"but have shapes {tuple(query.shape)} and {tuple(key.shape)}."
        )
    heads, positions = key.shape[1:3]
    if isinstance(couplings, Couplings):
        groups = {heads, len(query) * heads}
        if couplings.num_spins != positions or couplings.num_groups not in groups:
            raise ValueError(
                f"Argument `couplings` must have {positions} spins, and {heads} groups (heads) or "
                f"{len(query) * heads} (sequences times heads), but has {couplings.num_spins} "
                f"spins and {couplings.num_groups} groups."
            )
    elif tuple(couplings.shape) != (heads, positions, positions):
        raise ValueError(
            f"Argument `couplings` must have shape (heads, positions, positions) = "
            f"{(heads, positions, positions)}, but has shape {tuple(couplings.shape)}."
        )
    if is_causal and query.shape[2] > positions:
        raise ValueError(
            f"Causal attention takes at most as many queries as positions, but `query` has "
            f"{query.shape[2]} and `key` {positions}: pass is_causal=False."
        )
