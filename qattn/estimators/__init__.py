r"""Gradients from reads: estimators of mean spins and of their derivatives in h, J and β.

============ ==================================== =========================================
estimator    value                                gradient
============ ==================================== =========================================
``callen``   mean of tanh b_i                     pairs averaged given the rest of the read
``moment``   mean of the reads                    covariances of the reads
``score``    mean of the reads                    score function, leave-one-out baseline
``exact``    :func:`qattn.exact.mean_spins`       its derivative; draws no reads
============ ==================================== =========================================

All are unbiased for independent reads; ``callen`` has the least variance. The gradient of a loss
that is not linear in ⟨s⟩ has a bias that falls as 1/reads, least for ``callen``, because value and
derivative come from the same reads (``benchmarks/gradient_bias.py`` measures it).
Of a potential on counts (:class:`qattn.couplings.Cardinality`), ``callen`` is ``moment``.
``score`` is there for values that are not linear in the pattern: :func:`hard_patterns`,
:func:`expectation` and :func:`surrogate`.
"""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor

from qattn import exact
from qattn.backends.base import Backend
from qattn.couplings import Cardinality, LowRank, taken_apart
from qattn.estimators.autograd import ESTIMATORS, Estimate
from qattn.estimators.draw import draw
from qattn.estimators.score import check_variance, expectation, hard_patterns, surrogate
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples

__all__ = [
    "DEFAULT_ESTIMATOR",
    "available_estimators",
    "draw",
    "expectation",
    "hard_patterns",
    "mean_spins",
    "mean_spins_from",
    "surrogate",
]

DEFAULT_ESTIMATOR = "callen"


def available_estimators() -> tuple[str, ...]:
    """Names of the estimators of :func:`mean_spins`."""
    return (*sorted([*ESTIMATORS, "score"]), "exact")


def mean_spins(
    batch: IsingBatch,
    backend: Backend | None = None,
    *,
    num_reads: int = 100,
    estimator: str = DEFAULT_ESTIMATOR,
    seed: int | None = None,
) -> Float[Tensor, "groups queries spins"]:
    r"""Estimate of ⟨s_j⟩ from reads of a backend, differentiable in h, J and β.

    Its gradients are estimates of ∂⟨s_i⟩/∂h_j = β Cov(s_i, s_j) and ∂⟨s_i⟩/∂J_jk =
    β Cov(s_i, s_j s_k) for the pair, half of it in each entry of the symmetric J, as in
    :func:`qattn.exact.mean_spins`; 0 at absent spins. First derivatives only.

    Args:
        batch: The models.
        backend: Where the reads come from; not needed for the estimator ``exact``.
        num_reads: Number of reads per query.
        estimator: One of :func:`available_estimators`.
        seed: Seed of the reads; None means one from PyTorch's global generator.

    Raises:
        ValueError: There is no such estimator, the backend is missing, or `num_reads` is below 2
            (every sampling estimator needs a variance).

    >>> import torch, qattn
    >>> h = torch.tensor([[[0.3, -0.2]]], requires_grad=True)
    >>> batch = qattn.IsingBatch(h, torch.tensor([[[0.0, 0.5], [0.5, 0.0]]]))
    >>> mean = mean_spins(batch, qattn.get_backend("exact"), num_reads=1000, seed=0)
    >>> bool((mean - qattn.exact.mean_spins(batch)).abs().max() < 0.1)
    True
    >>> mean.sum().backward()
    >>> h.grad.shape
    torch.Size([1, 1, 2])
    """
    mean, _ = mean_spins_and_info(batch, backend, num_reads, estimator, seed)
    return mean


def mean_spins_and_info(
    batch: IsingBatch,
    backend: Backend | None,
    num_reads: int,
    estimator: str,
    seed: int | None = None,
) -> tuple[Float[Tensor, "groups queries spins"], Mapping[str, Any]]:
    """The estimate of :func:`mean_spins`, and the `info` of its reads: empty if there are none."""
    check_estimator(estimator)
    if estimator == "exact":
        return exact.mean_spins(batch), {}
    if backend is None:
        raise ValueError(
            f"Argument `backend` must be a Backend for the estimator {estimator!r}, but is None."
        )
    if num_reads < 2:
        raise ValueError(
            f"Argument `num_reads` must be at least 2 for the estimator {estimator!r}, which needs "
            f"a variance, but is {num_reads}."
        )
    samples = draw(batch, backend, num_reads=num_reads, seed=seed)
    return mean_spins_from(samples, batch, estimator=estimator), samples.info


def mean_spins_from(
    samples: SpinSamples, batch: IsingBatch, *, estimator: str = DEFAULT_ESTIMATOR
) -> Float[Tensor, "groups queries spins"]:
    """The estimate of :func:`mean_spins` from given reads.

    Args:
        samples: Reads of `batch`. Weights are numbers of occurrences: a row of weight 2 counts as
            two equal reads.
        batch: The models.
        estimator: One of :func:`available_estimators`; ``exact`` ignores the reads.

    Raises:
        ValueError: There is no such estimator, or a query has fewer than two reads.
    """
    check_estimator(estimator)
    if estimator == "exact":
        return exact.mean_spins(batch)
    check_variance(samples)
    by_reads = isinstance(batch.J, Cardinality) or (
        estimator == "moment" and isinstance(batch.J, LowRank)
    )
    if estimator == "score" or by_reads:
        return expectation(samples.spins.to(batch.h.dtype), batch, samples)
    # All pairs of a product are coupled: its matrix then.
    h, J = batch.scaled() if isinstance(batch.J, LowRank) else batch.scaled_structure()
    values, kind, options = taken_apart(J)
    active = batch.active.expand(h.shape)
    mean: Tensor
    (mean,) = Estimate.apply(  # type: ignore[no-untyped-call]
        h, values, samples.spins, samples.weights, active, estimator, kind, options
    )
    return mean


def check_estimator(estimator: str) -> None:
    """Raise a ValueError that lists the estimators for a name that is none of them."""
    if estimator not in available_estimators():
        names = ", ".join(repr(name) for name in available_estimators())
        raise ValueError(f"Argument `estimator` must be one of {names}, but is {estimator!r}.")
