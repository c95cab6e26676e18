r"""Boltzmann attention as a function: the counterpart of ``F.scaled_dot_product_attention``."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from qattn import estimators, exact
from qattn._tracing import is_traced
from qattn.backends import Backend, get_backend
from qattn.ising.batch import IsingBatch
from qattn.ising.checks import check_beta, checked_couplings
from qattn.ising.precision import at_least_single, without_autocast


def boltzmann_attention(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch heads positions head_dim"],
    value: Float[Tensor, "batch heads positions value_dim"],
    couplings: Float[Tensor, "heads positions positions"],
    *,
    is_causal: bool = True,
    field_bias: Float[Tensor, " heads"] | float | None = None,
    beta: float | Tensor = 1.0,
    normalize: bool = False,
    scale: float | None = None,
    backend: str | Backend = "exact",
    num_reads: int = 100,
    estimator: str | None = None,
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
            is cooperative.
        is_causal: Query i attends to positions j ≤ i only: a smaller Ising model, not a masked
            one. Needs as many queries as positions.
        field_bias: b, one number or one per head; None means 0.
        beta: Inverse temperature.
        normalize: Divide by Σ_j w_ij, so that the weights of a query sum to one.
        scale: Factor of q·k; None means 1/√head_dim.
        backend: Where ⟨s⟩ comes from: a backend or the name of one; "exact" needs no reads.
        num_reads: Reads per query of a sampling backend.
        estimator: How reads become ⟨s⟩ and its gradients, one of
            :func:`qattn.estimators.available_estimators`; None means the exact gradient for
            "exact" and "callen" for other backends.
        validate: Check that couplings are finite and symmetric; off inside ``torch.func.vmap``.

    Returns:
        Output, shape (batch, heads, queries, value_dim), in the dtype of `value`. Inputs of half
        precision are computed with in float32, under ``torch.autocast`` too.
        :func:`boltzmann_weights` returns w.

    Raises:
        ValueError: A shape does not fit, or couplings are asymmetric or not finite. A query or key
            that is not finite makes the outputs NaN that depend on it.
        MemoryError: More positions than exact enumeration can hold.

    Source: Kim and Park, "Boltzmann Attention", arXiv 2606.12478.

    Without couplings and with the default β it is sigmoid attention:

    >>> query, key, value = torch.ones(3, 1, 2, 4, 6)  # 1 sequence, 2 heads, 4 positions
    >>> out = boltzmann_attention(query, key, value, couplings=torch.zeros(2, 4, 4))
    >>> out.shape
    torch.Size([1, 2, 4, 6])
    >>> torch.allclose(out[0, 0, 2], 3 * torch.tensor(6**0.5).sigmoid())  # positions 0, 1, 2
    True
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
        field_bias=field_bias,
        beta=beta,
        normalize=normalize,
        scale=scale,
        backend=backend,
        num_reads=num_reads,
        estimator=estimator,
        validate=validate,
    )
    return weights.to(value.dtype) @ value


def boltzmann_weights(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch heads positions head_dim"],
    couplings: Float[Tensor, "heads positions positions"],
    *,
    is_causal: bool = True,
    field_bias: Float[Tensor, " heads"] | float | None = None,
    beta: float | Tensor = 1.0,
    normalize: bool = False,
    scale: float | None = None,
    backend: str | Backend = "exact",
    num_reads: int = 100,
    estimator: str | None = None,
    validate: bool = True,
) -> Float[Tensor, "batch heads queries positions"]:
    """The weights w of :func:`boltzmann_attention`; 0 at positions that a query cannot see.

    In float32, or in float64 if `query` is.
    """
    _check_query_and_key(query, key, couplings, is_causal)
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    with without_autocast(query.device):
        query, key, couplings = (at_least_single(x) for x in (query, key, couplings))
        fields = (query * (scale / 2)) @ key.mT
        if field_bias is not None:
            bias = torch.as_tensor(field_bias, dtype=fields.dtype, device=fields.device)
            fields = fields + bias.reshape(-1, 1, 1) / 2
        batch = ising_batch(fields, couplings, is_causal=is_causal, beta=beta, validate=validate)
        occupations, _ = occupations_from_backend(batch, backend, num_reads, estimator, normalize)
        return weights_of_sequences(occupations, query.shape[2])


def ising_batch(
    fields: Float[Tensor, "batch heads queries positions"],
    couplings: Float[Tensor, "heads positions positions"],
    *,
    is_causal: bool,
    beta: float | Tensor = 1.0,
    validate: bool = True,
) -> IsingBatch:
    """The Ising models of all queries: a group is a head, its queries are ordered by position."""
    B, H, Q, n = fields.shape
    # Spin axis first, query axis last: the order in which the exact engine computes, so no copy
    # there.
    h = fields.permute(1, 3, 2, 0).reshape(H, n, Q * B).mT
    lengths = torch.arange(1, Q + 1, device="cpu").repeat_interleave(B) if is_causal else None
    if validate and not is_traced(couplings):
        # Fields are not checked: NaN in one sequence stays there, as in PyTorch's attention.
        couplings = checked_couplings(couplings)
        check_beta(beta)
    return IsingBatch(h, couplings, lengths, beta, validate=False)


def occupations_from_backend(
    batch: IsingBatch,
    backend: str | Backend,
    num_reads: int,
    estimator: str | None,
    normalize: bool,
) -> tuple[Float[Tensor, "groups queries spins"], Mapping[str, Any]]:
    """Weights w = ⟨n⟩ with their gradients, exact or from reads, and the `info` of the reads.

    Exact ones come from the engine as occupations, which keeps small weights (and their sum) to
    rounding; of reads, w = (1 + ⟨s⟩)/2 has the error of sampling.
    """
    if backend == "exact" and estimator is None:
        return exact.occupations(batch, normalize=normalize), {}
    if isinstance(backend, str):
        backend = get_backend(backend)
    estimator = estimators.DEFAULT_ESTIMATOR if estimator is None else estimator
    mean, info = estimators.mean_spins_and_info(batch, backend, num_reads, estimator)
    # A position that a query cannot see has ⟨s⟩ = 0 and must get w = 0, hence no 1 either.
    weights = (mean + batch.active.to(mean.dtype)) / 2
    return normalized(weights) if normalize else weights, info


def weights_of_sequences(
    occupations: Float[Tensor, "heads queries_times_batch positions"], num_queries: int
) -> Float[Tensor, "batch heads queries positions"]:
    """Attention weights by sequence, from the occupations of an :func:`ising_batch`."""
    H, _, n = occupations.shape
    return occupations.mT.reshape(H, n, num_queries, -1).permute(3, 0, 2, 1)


def normalized(weights: Float[Tensor, "*batch positions"]) -> Float[Tensor, "*batch positions"]:
    """Weights that sum to one over the positions of each query; zeros stay, without gradient."""
    total = weights.sum(-1, keepdim=True)
    return weights / total.masked_fill(total == 0, torch.inf)


def _check_query_and_key(query: Tensor, key: Tensor, couplings: Tensor, is_causal: bool) -> None:
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
    heads, positions = key.shape[1:3]
    if tuple(couplings.shape) != (heads, positions, positions):
        raise ValueError(
            f"Argument `couplings` must have shape (heads, positions, positions) = "
            f"{(heads, positions, positions)}, but has shape {tuple(couplings.shape)}."
        )
    if is_causal and query.shape[2] != positions:
        raise ValueError(
            f"Causal attention needs as many queries as positions, but `query` has "
            f"{query.shape[2]} and `key` {positions}: pass is_causal=False."
        )
