r"""The score-function estimator, for a downstream that is not linear in the pattern.

Each read's hard pattern goes through the downstream on its own. With X_r the value that read r
gives, N reads, and ∇ over h, J and β,

.. math::
    \nabla \langle X \rangle = \langle \nabla X \rangle + \mathrm{Cov}(X, \nabla \log p),
    \qquad
    \mathrm{Cov} \approx \frac{1}{N} \sum_r (X_r - \bar X_{\setminus r}) \nabla \log p(s_r)
                 = \frac{1}{N-1} \sum_r (X_r - \bar X) \nabla \log p(s_r),

where the baseline is the mean over the other reads. The baselined values sum to zero, so the
gradient of log Z, the same for all reads of a query, drops out and -βE stands for log p. Unbiased
for independent reads (Williams, Machine Learning 8, 229 (1992), for the score function).
"""

from contextlib import suppress

from torch import Tensor

from qattn.ising.batch import IsingBatch
from qattn.ising.precision import at_least_single, without_autocast
from qattn.ising.samples import SpinSamples


def hard_patterns(samples: SpinSamples, batch: IsingBatch) -> Tensor:
    """Attention weights (1 + s)/2 of every read: 0 or 1, and 0 at absent spins, in h's dtype.

    Shape (groups, queries, reads, spins), without gradient: it comes through :func:`expectation`
    or :func:`surrogate`.
    """
    return (samples.spins > 0).to(batch.h.dtype)


def expectation(values: Tensor, batch: IsingBatch, samples: SpinSamples) -> Tensor:
    """The mean of per-read values over the reads of each query, differentiable in h, J and β.

    Args:
        values: What each read's pattern gives, shape (groups, queries, reads, …), with whatever
            gradient it has in other parameters; ``hard_patterns(samples, batch) @ v``, put
            through a normalisation or a network, for example.
        batch: The models.
        samples: The reads, with weights if they have them.

    Returns:
        Shape (groups, queries, …). Where `values` is linear in the pattern its gradient is that
        of the estimator ``moment``.

    Raises:
        ValueError: `values` has not one entry per read, or a query has fewer than two reads.
    """
    shape = samples.spins.shape[:3]
    if values.shape[:3] != shape:
        raise ValueError(
            f"Argument `values` must have shape {(*shape, '…')} to match `samples`, "
            f"but has shape {tuple(values.shape)}."
        )
    # The values as vectors, of one component if they are numbers.
    flat = values.flatten(3) if values.ndim > 3 else values.unsqueeze(-1)
    weights, log_p, count = _log_weights(batch, samples)
    with without_autocast(batch.h.device):
        flat = at_least_single(flat)
        mean = (weights @ flat).squeeze(2)
        # X_r - X̄, which gets no gradient, times ∇ log p: the score term has value 0, because
        # log_p has, and the gradient of the covariance.
        deviation = (flat - mean.unsqueeze(2)).detach()
        score = ((weights * log_p * (count / (count - 1))) @ deviation).squeeze(2)
        return (mean + score).reshape(*values.shape[:2], *values.shape[3:])


def surrogate(losses: Tensor, batch: IsingBatch, samples: SpinSamples) -> Tensor:
    r"""A scalar of value 0 whose gradient in h, J and β is the score term of the summed losses.

    For losses that depend on the patterns of many queries at once: evaluate the rest of the
    network on read r of all of them together, and train on

    ``losses.mean(-1).sum() + surrogate(per_query_losses, batch, samples)``.

    Args:
        losses: The loss that read r of a query had a part in, shape (groups, queries, reads) or
            one that broadcasts to it; not differentiated.
        batch: The models.
        samples: The reads; row r of every query belongs to the same evaluation, so weights are
            not allowed.

    Raises:
        ValueError: `losses` does not broadcast to one value per read, `samples` have weights, or
            there are fewer than two reads.
    """
    if samples.weights is not None:
        raise ValueError(
            "Argument `samples` must have no weights: read r of all queries is one evaluation."
        )
    shape = samples.spins.shape[:3]
    try:
        losses = losses.detach().expand(shape)
    except RuntimeError:
        raise ValueError(
            f"Argument `losses` must broadcast to shape {tuple(shape)}, "
            f"but has shape {tuple(losses.shape)}."
        ) from None
    _, log_p, count = _log_weights(batch, samples)
    # Divided by N - 1, the deviation from the mean is that from the mean of the other reads, / N.
    baselined = (losses - losses.mean(-1, keepdim=True)) / (count - 1).squeeze(-1)
    return (baselined * log_p.squeeze(2)).sum()


def check_variance(samples: SpinSamples) -> None:
    """Raise a ValueError where a query has fewer than the two reads that a variance takes."""
    least = float(samples.num_reads)
    if samples.weights is not None and samples.weights.numel():
        # Values cannot be looked at inside vmap, where the reads come from `draw`.
        with suppress(RuntimeError):
            least = float(samples.weights.sum(-1).min())
    if least < 2:
        raise ValueError(
            f"Argument `samples` must have at least 2 reads per query for an estimator that needs "
            f"a variance, but has {least:g}."
        )


def _log_weights(batch: IsingBatch, samples: SpinSamples) -> tuple[Tensor, Tensor, Tensor]:
    """Weights that sum to one, -βE(s) less its value, both (g, q, 1, reads), and read counts."""
    check_variance(samples)
    with without_autocast(batch.h.device):
        h, J = batch.scaled_structure()
        energies = IsingBatch(h, J, batch.lengths, validate=False).energies(samples.spins)
    weights = samples.normalized_weights(h.dtype)
    count = samples.counts(h.dtype)[..., None, None]
    return weights.unsqueeze(2), (energies.detach() - energies).unsqueeze(2), count
