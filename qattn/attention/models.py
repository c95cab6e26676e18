"""From scores to the Ising models of all queries, and from their moments to attention weights."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from qattn import estimators, exact, mean_field
from qattn.attention.blocks import by_block
from qattn.attention.compaction import compacted
from qattn.attention.masks import Lengths, num_groups
from qattn.backends import Backend, get_backend
from qattn.couplings import Banded, Block, Cardinality, Couplings
from qattn.exact.engine import normalized
from qattn.ising.batch import IsingBatch

INTERACTIONS = ("spin", "occupation", "field")
"""What couplings act between."""

MOMENTS = ("exact", *mean_field.METHODS)
"""How mean spins are computed, where no backend draws reads."""

ESTIMATED = 128
"""Queries of a pass whose mean-field error is estimated, about."""

BY_SEQUENCE = 16
"""Queries of a head from which on those of each sequence are a group of their own: engines solve as
many side by side, those of several sequences where one has fewer."""


def weights_and_info(
    fields: Float[Tensor, "#batch heads queries positions"],
    couplings: Float[Tensor, "groups positions positions"] | Couplings,
    backend: str | Backend,
    num_reads: int,
    estimator: str | None,
    *,
    lengths: Lengths | None,
    interaction: str,
    beta: float | Tensor,
    normalize: bool,
    moments: str = "exact",
) -> tuple[Float[Tensor, "batch heads queries positions"], Mapping[str, Any]]:
    """Attention weights of given fields, and the `info` of what is not exact about them."""
    check_moments(moments, backend, estimator)
    exactly = backend == "exact" and estimator is None
    if exactly and interaction == "field":
        fields = _shifted(fields, couplings, lengths, -1)
        logits = 2 * (beta.reshape(-1, 1, 1) if isinstance(beta, Tensor) else beta) * fields
        return independent_weights(logits, lengths, normalize), {}
    batch = ising_batch(
        fields,
        couplings,
        lengths=lengths,
        interaction=interaction,
        beta=beta,
        by_sequence=exactly and moments == "exact" and fields.shape[2] >= BY_SEQUENCE,
    )
    if moments == "exact":
        found = occupations_from_backend(batch, backend, num_reads, estimator, normalize)
    else:
        found = mean_field_occupations(batch, moments, normalize)
    occupations, info = found
    return weights_of_sequences(occupations, *fields.shape[1:3]), info


def masked_weights_and_info(
    fields: Float[Tensor, "batch heads queries positions"],
    couplings: Float[Tensor, "groups rows rows"] | Couplings,
    *args: Any,
    mask: Bool[Tensor, "#batch #heads #queries positions"],
    rows: Int[Tensor, "#batch positions"] | None,
    beta: float | Tensor,
    normalize: bool,
    **options: Any,
) -> tuple[Float[Tensor, "batch heads queries positions"], Mapping[str, Any]]:
    """The same where a mask says which positions a query sees; J is that of their rows."""
    if isinstance(couplings, Block):
        # The weights of a query may be below the range of a float32, and so would be their sum.
        dtype = torch.float64 if normalize else fields.dtype
        wide = Block(couplings.values.to(dtype), couplings.num_spins)
        parts = by_block(fields.to(dtype), wide, beta, mask, rows)
        weights, info = masked_weights_and_info(
            parts.fields,
            parts.couplings,
            *args,
            mask=parts.mask,
            rows=None,
            beta=parts.beta,
            normalize=False,
            **options,
        )
        weights = parts.placed(weights, fields.shape[1])
        return (normalized(weights) if normalize else weights).to(fields.dtype), info
    small = compacted(fields, couplings, beta, mask, rows)
    weights, info = weights_and_info(
        small.fields,
        small.couplings,
        *args,
        lengths=small.lengths,
        beta=small.beta,
        normalize=normalize,
        **options,
    )
    return small.placed(weights), info


def independent_weights(
    scores: Float[Tensor, "batch heads queries positions"],
    lengths: Lengths | None,
    normalize: bool,
) -> Float[Tensor, "batch heads queries positions"]:
    """Sigmoid of the scores, 0 where a query does not see; divided by their sum, if requested."""
    if normalize:
        # σ(x)/Σσ(x), right also where every σ(x) of a query is too small for a float.
        weights = masked(F.logsigmoid(scores), -torch.inf, lengths).softmax(-1)
        return weights if lengths is None else masked(weights, 0.0, lengths)
    return masked(scores.sigmoid(), 0.0, lengths)


def masked(
    x: Float[Tensor, "batch heads queries positions"],
    value: float,
    lengths: Lengths | None,
) -> Float[Tensor, "batch heads queries positions"]:
    """X with this value where a query does not see a position."""
    if lengths is None:
        return x
    return x.masked_fill(~seen(lengths, x.shape[-1], x.device).mT, value)  # in the scores' order


def seen(
    lengths: Lengths, num_positions: int, device: torch.device
) -> Bool[Tensor, "#batch #heads positions queries"]:
    """True where a query sees a position."""
    positions = torch.arange(num_positions, device="cpu")[:, None]
    return (positions < lengths.unsqueeze(-2)).to(device)


def ising_batch(
    fields: Float[Tensor, "#batch heads queries positions"],
    couplings: Float[Tensor, "groups positions positions"] | Couplings,
    *,
    lengths: Lengths | None,
    interaction: str = "spin",
    beta: float | Tensor = 1.0,
    by_sequence: bool = False,
) -> IsingBatch:
    """The Ising models of all queries.

    A group is a head, its queries ordered by position. Where couplings differ between sequences,
    and `by_sequence` for the engines of structures, which then need no copy, a group is a head of
    a sequence.

    Args:
        fields: Fields of all positions.
        couplings: Those of each head, or of each head of each sequence.
        lengths: How many positions each query sees; None for all.
        interaction: What J acts between.
        beta: Inverse temperature, a number or one for each head.
        by_sequence: See above.
    """
    if interaction != "spin":
        fields = _shifted(fields, couplings, lengths, 1 if interaction == "occupation" else -1)
    B, H, Q, n = fields.shape
    groups = num_groups(couplings)
    if interaction == "field":
        couplings = Banded(fields.new_zeros(H, n, 0))
    by_sequence = by_sequence and isinstance(couplings, Couplings)
    if groups > H or (by_sequence and not isinstance(couplings, Block)):
        B = max(B, groups // H)
        h = fields.expand(B, -1, -1, -1).flatten(0, 1)
        if isinstance(couplings, Couplings) and couplings.num_groups < B * H:
            couplings = couplings.repeated(B)
        if lengths is not None:
            lengths = lengths.expand(B, H, Q).flatten(0, 1)
        if isinstance(beta, Tensor) and beta.ndim:
            beta = beta.repeat(B)
    else:
        # Spin axis first, query axis last: the order in which the exact engine of a dense J
        # computes, so no copy there.
        h = fields.permute(1, 3, 2, 0).reshape(H, n, Q * B).mT
        if lengths is not None:
            heads = 1 if lengths.shape[:2] == (1, 1) else H
            lengths = lengths.expand(B, heads, Q).permute(1, 2, 0).reshape(heads, Q * B)
            lengths = lengths[0] if heads == 1 else lengths
    return IsingBatch(h, couplings, lengths, beta, validate=False)


def _shifted(
    fields: Float[Tensor, "#batch heads queries positions"],
    couplings: Float[Tensor, "groups positions positions"] | Couplings,
    lengths: Lengths | None,
    sign: int,
) -> Float[Tensor, "batch heads queries positions"]:
    """Fields ± Σ_k J_jk over the positions k that the query sees."""
    H, n = fields.shape[1], fields.shape[3]
    present = fields.new_ones(1, 1, n, 1)
    if lengths is not None:
        present = seen(lengths, n, fields.device).to(fields.dtype)
    b = max(len(present), num_groups(couplings) // H)
    present = present.expand(b, H, -1, -1)
    if num_groups(couplings) == H:
        # The sequences' columns side by side, with the one J of each head.
        total = _product(couplings, present.permute(1, 2, 0, 3).flatten(2))
        total = total.unflatten(2, (b, -1)).permute(2, 0, 1, 3)
    else:
        total = _product(couplings, present.flatten(0, 1)).unflatten(0, (b, H))
    shifted: Tensor = fields + sign * total.mT
    return shifted


def _product(couplings: Tensor | Couplings, columns: Tensor) -> Tensor:
    return couplings.matvec(columns) if isinstance(couplings, Couplings) else couplings @ columns


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


def mean_field_occupations(
    batch: IsingBatch, moments: str, normalize: bool
) -> tuple[Float[Tensor, "groups queries spins"], Mapping[str, Any]]:
    """Weights by a mean-field method, and in `info` what it says of itself.

    "mean_field_error" is the estimated rms error of ⟨s⟩ over some of the queries, "not_converged"
    the share of queries without a solution to be trusted, "report" both in full.
    """
    num_estimates = max(1, ESTIMATED // batch.num_groups)
    mean, report = mean_field.mean_spins_and_report(batch, moments, num_estimates)
    weights = (mean + batch.active.to(mean.dtype)) / 2
    info = {"mean_field_error": report.error, "not_converged": report.share_failed}
    return normalized(weights) if normalize else weights, info | {"report": report}


def weights_of_sequences(
    occupations: Float[Tensor, "groups columns positions"], num_heads: int, num_queries: int
) -> Float[Tensor, "batch heads queries positions"]:
    """Attention weights by sequence, from the occupations of an :func:`ising_batch`."""
    n = occupations.shape[2]
    # Sequences are further groups, or the last axis of the columns.
    by_group = occupations.mT.reshape(
        -1, num_heads, n, num_queries, occupations.shape[1] // num_queries
    )
    return by_group.permute(0, 4, 1, 3, 2).flatten(0, 1)


def check_moments(moments: str, backend: str | Backend, estimator: str | None) -> None:
    """Raise a ValueError unless there are such moments, and no reads are asked for beside them."""
    if moments not in MOMENTS:
        names = ", ".join(repr(name) for name in MOMENTS)
        raise ValueError(f"Argument `moments` must be one of {names}, but is {moments!r}.")
    if moments != "exact" and (backend != "exact" or estimator is not None):
        name = backend if isinstance(backend, str) else type(backend).__name__
        reads = f"backend {name}" if backend != "exact" else f"estimator {estimator!r}"
        raise ValueError(
            f"Argument `moments` must be 'exact' with the {reads}, which takes mean spins from "
            f"reads, but is {moments!r}: leave out one of the two."
        )


def check_interaction(interaction: str, kind: str) -> None:
    """Raise a ValueError unless couplings of this kind have this interaction."""
    if interaction not in INTERACTIONS:
        names = ", ".join(repr(name) for name in INTERACTIONS)
        raise ValueError(f"Argument `interaction` must be one of {names}, but is {interaction!r}.")
    if interaction != "spin" and kind == Cardinality.kind:
        raise ValueError(
            f"Argument `interaction` must be 'spin' for a potential on the number of attended "
            f"positions, which has no couplings between spins, but is {interaction!r}."
        )
