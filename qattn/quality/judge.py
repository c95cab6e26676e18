"""Reads compared with exact values, and with the same number of independent exact reads."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.estimators import DEFAULT_ESTIMATOR
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples
from qattn.pseudolikelihood import fit_beta, fit_betas, fit_betas_of_each
from qattn.quality.choose_reference import reference_of
from qattn.quality.metrics import METRICS, measure, regression
from qattn.quality.reference import Reference
from qattn.quality.scores import Floor, Quality, score_of
from qattn.quality.split import split_by_problem

FLOOR_REPEATS = 10
"""How many times independent exact reads are drawn for the floor."""

READS_PER_STATE = 10
"""Minimum reads per effective state for total variation and KL to be reliable:
below, the KL of exact reads at 12 spins came out at 0.05 instead of 0."""

CLUSTERED = 20
"""Minimum number of problems for intervals of the betas that allow for errors of each problem."""


def noise_floor(
    reference: Reference,
    num_reads: int | Float[Tensor, " problems"],
    *,
    repeats: int = FLOOR_REPEATS,
    seed: int = 0,
    estimator: str = DEFAULT_ESTIMATOR,
    progress: Callable[[str], None] = lambda _: None,
) -> Floor:
    """Figures of the same number of independent exact reads of these problems.

    Args:
        reference: The problems.
        num_reads: Reads of each problem, one number for all or one each.
        repeats: How many times reads are drawn.
        seed: Seed of the reads.
        estimator: How reads become gradients.
        progress: Called with a line before each repeat.

    Raises:
        ValueError: `repeats` is below 2, or `num_reads` is not positive.
    """
    if repeats < 2:
        raise ValueError(f"Argument `repeats` must be at least 2, but is {repeats}.")
    counts = torch.as_tensor(num_reads, dtype=torch.float64).expand(reference.num_problems)
    max_reads = round(float(counts.max()))
    if not float(counts.min()) >= 1:
        raise ValueError(f"Argument `num_reads` must be positive, but is {float(counts.min())}.")
    seeds = torch.randint(2**31, (repeats,), generator=torch.Generator().manual_seed(seed)).tolist()
    measured = []
    for repeat, repeat_seed in enumerate(seeds):
        progress(f"noise floor, {repeat + 1} of {repeats}")
        samples = reference.draw(max_reads, repeat_seed)
        if bool((counts < max_reads).any()):
            weights = (torch.arange(max_reads) < counts[:, None, None].round()).double()
            samples = SpinSamples(samples.spins, weights)
        measured.append(measure(samples, reference, estimator=estimator))
    values = {name: torch.stack([values[name] for values in measured]) for name in measured[0]}
    return Floor(counts, values)


def judge(
    samples: SpinSamples,
    batch: IsingBatch,
    *,
    reference: Reference | None = None,
    floor: Floor | None = None,
    estimator: str = DEFAULT_ESTIMATOR,
    seed: int = 0,
) -> Quality:
    """Judge reads of a batch, figure by figure beside the noise floor.

    Args:
        samples: Reads of `batch`; weights are numbers of occurrences, or those of importance
            sampling, which are worth fewer reads.
        batch: The problems.
        reference: ``reference_of(batch)``, to be shared by many samplers; None means a new one.
        floor: ``noise_floor(reference, num_reads)``, likewise.
        estimator: How reads become gradients.
        seed: Seed of reference and floor where they are not given.

    Raises:
        ValueError: `samples` are not reads of `batch`, `floor` is that of another number of reads,
            or a weight is not a count.

    >>> from qattn import exact
    >>> from qattn.problems import synthetic
    >>> batch = synthetic(num_problems=10, num_spins=4)
    >>> quality = judge(exact.sample(batch, 500, seed=1), batch)
    >>> bool(0.7 < quality.scores["mean_rms"].ratio < 1.3)  # exact reads are at the noise floor
    True
    """
    reference = reference_of(batch, seed=seed) if reference is None else reference
    split = split_by_problem(samples, batch)
    counts = split.counts()[:, 0]
    if floor is None:
        floor = noise_floor(reference, counts, seed=seed, estimator=estimator)
    if not torch.allclose(floor.num_reads, counts):
        raise ValueError(
            f"Argument `floor` must be that of {counts.mean():g} reads, "
            f"but is that of {floor.num_reads.mean():g}."
        )
    values = measure(split, reference, estimator=estimator)
    scores = {
        name: score_of(value, floor.values[name], METRICS[name]) for name, value in values.items()
    }
    data = regression(split, reference)
    betas_of_each, covariance = fit_betas_of_each(*data)
    betas, one_beta = None, None
    try:
        # What a device realises of each problem is off in its own way: then problems, and not
        # reads, are independent.
        clusters = "problems" if reference.num_problems >= CLUSTERED else "reads"
        betas = fit_betas(*data, clusters=clusters)
        fit = fit_beta(*data, clusters=clusters)
        one_beta = fit.beta, fit.standard_error, fit.p_value
    except ValueError:  # reads of nothing but ground states fix no temperature
        pass
    judged = Quality(
        {name: score for name, score in scores.items() if score is not None},
        values,
        {name: value.nanmean(0) for name, value in floor.values.items()},
        betas,
        one_beta,
        betas_of_each,
        covariance.diagonal(dim1=1, dim2=2).sqrt(),
        counts,
        split.effective_counts()[:, 0],
        reference.is_exact,
        bool((counts / reference.effective_states).mean() >= READS_PER_STATE),
    )
    if not judged.order_resolved:
        judged.scores.pop("autocorrelation", None)
    return judged
