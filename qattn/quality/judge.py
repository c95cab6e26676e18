r"""Figures of merit beside their noise floor: what independent exact reads of that number give.

.. math:: \text{ratio} = \frac{\text{figure of the reads}}{\text{figure of independent exact reads}}

is 1, within its error, for a sampler that is as good as exact, and its excess over 1 is the
sampler's fault and not that of few reads. A systematic error b of moments beside a floor f gives
√(1 + b²/f²); so many reads are worth N/ratio² independent ones.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.estimators import DEFAULT_ESTIMATOR
from qattn.ising import IsingBatch
from qattn.pseudolikelihood import BetaFit, fit_beta, fit_betas, fit_betas_of_each
from qattn.quality.apart import reads_apart, total_weights
from qattn.quality.metrics import METRICS, Metric, Values, measure, regression
from qattn.quality.reference import Reference, reference_of
from qattn.samples import SpinSamples

FLOOR_REPEATS = 10
"""How many times independent exact reads are drawn for the floor."""

READS_PER_STATE = 10
"""Reads for every state that matters from which on distances over states are taken at their word:
below, the KL of exact reads at 12 spins came out at 0.05 instead of 0."""


@dataclass(frozen=True, eq=False)
class Floor:
    """Figures of independent exact reads of some number.

    Attributes:
        num_reads: Reads of each problem.
        values: Of each figure, shape (repeats, problems).
    """

    num_reads: Float[Tensor, " problems"]
    values: Mapping[str, Float[Tensor, "repeats problems"]] = field(repr=False)


@dataclass(frozen=True)
class Score:
    """A figure of all problems beside its floor.

    Attributes:
        value: Of the reads.
        floor: Mean over repeats with independent exact reads.
        floor_sd: Standard deviation of those repeats: the noise of a figure near the floor.
        ratio: ``value / floor``.
        ratio_error: What the ratio of exact reads scatters by around 1.
    """

    value: float
    floor: float
    floor_sd: float
    ratio: float
    ratio_error: float


@dataclass(frozen=True, eq=False)
class Quality:
    """How good reads of a batch are.

    Attributes:
        scores: Figures over all problems, by the names of :data:`METRICS`; those that have no
            value (no fields, one spin, lost order) are left out.
        per_problem: The same of each problem.
        floor_per_problem: Mean of each over exact reads.
        betas: β_h and β_J fitted to all problems together, for independent reads; None where the
            reads do not fix them.
        one_beta: One β for both, its standard error, and the p-value of β_h = β_J; or None.
        betas_of_each: The same of each problem, shape (problems, 2); nan where not fixed.
        errors_of_each: Their standard errors.
        num_reads: Reads of each problem.
        is_exact: Whether the reference is exact.
        states_resolved: Whether there are ten reads for every state that matters (on average):
            otherwise TV and KL are biased, and by how much depends on the sampler.
    """

    scores: dict[str, Score]
    per_problem: Values
    floor_per_problem: Values
    betas: BetaFit | None
    one_beta: tuple[float, float, float] | None
    betas_of_each: Float[Tensor, "problems 2"]
    errors_of_each: Float[Tensor, "problems 2"]
    num_reads: Float[Tensor, " problems"]
    is_exact: bool
    states_resolved: bool

    @property
    def effective_reads(self) -> float:
        """Mean over the problems of N/τ, at most N; N where the order of the reads is lost."""
        time = self.per_problem["autocorrelation"].nan_to_num(1.0).clamp_min(1.0)
        return float((self.num_reads / time).mean())

    @property
    def equivalent_reads(self) -> float:
        """N/ratio² of the error of ⟨s⟩: how many independent exact reads err as much."""
        return float(self.num_reads.mean()) / self.scores["mean_rms"].ratio ** 2

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None for what is not finite."""
        betas = None
        if self.betas is not None:
            (low_h, high_h), (low_J, high_J) = self.betas.interval()
            betas = {
                "beta_h": _plain(self.betas.beta_h),
                "beta_h_interval": [_plain(low_h), _plain(high_h)],
                "beta_J": _plain(self.betas.beta_J),
                "beta_J_interval": [_plain(low_J), _plain(high_J)],
            }
        if betas is not None and self.one_beta is not None:
            names = ("beta", "beta_error", "p_value_of_equality")
            betas |= {k: _plain(v) for k, v in zip(names, self.one_beta, strict=True)}
        return {
            "is_exact": self.is_exact,
            "states_resolved": self.states_resolved,
            "num_reads": self.num_reads.tolist(),
            "scores": {
                name: {k: _plain(v) for k, v in vars(score).items()}
                for name, score in self.scores.items()
            },
            "betas": betas,
            "betas_of_each": [[_plain(x) for x in row] for row in self.betas_of_each.tolist()],
            "errors_of_each": [[_plain(x) for x in row] for row in self.errors_of_each.tolist()],
            "effective_reads": _plain(self.effective_reads),
            "equivalent_reads": _plain(self.equivalent_reads),
            "per_problem": {
                name: [_plain(x) for x in value.tolist()]
                for name, value in self.per_problem.items()
            },
        }


def noise_floor(
    reference: Reference,
    num_reads: int | Float[Tensor, " problems"],
    *,
    repeats: int = FLOOR_REPEATS,
    seed: int = 0,
    estimator: str = DEFAULT_ESTIMATOR,
    progress: Callable[[str], None] = lambda _: None,
) -> Floor:
    """What independent exact reads of that number give on these problems.

    Args:
        reference: The problems.
        num_reads: Reads of each problem, one number for all or one each.
        repeats: How many times reads are drawn.
        seed: Seed of the reads.
        estimator: How reads become gradients.
        progress: Is told which repeat is being drawn.

    Raises:
        ValueError: `repeats` is below 2, or `num_reads` is not positive.
    """
    if repeats < 2:
        raise ValueError(f"Argument `repeats` must be at least 2, but is {repeats}.")
    counts = torch.as_tensor(num_reads, dtype=torch.float64).expand(reference.num_problems)
    most = round(float(counts.max()))
    if not float(counts.min()) >= 1:
        raise ValueError(f"Argument `num_reads` must be positive, but is {float(counts.min())}.")
    seeds = torch.randint(2**31, (repeats,), generator=torch.Generator().manual_seed(seed)).tolist()
    found = []
    for repeat, one in enumerate(seeds):
        progress(f"noise floor, {repeat + 1} of {repeats}")
        samples = reference.draw(most, one)
        if bool((counts < most).any()):
            weights = (torch.arange(most) < counts[:, None, None].round()).double()
            samples = SpinSamples(samples.spins, weights)
        found.append(measure(samples, reference, estimator=estimator))
    values = {name: torch.stack([values[name] for values in found]) for name in found[0]}
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
    """How good reads of a batch are, figure by figure beside the noise floor.

    Args:
        samples: Reads of `batch`; weights are numbers of occurrences.
        batch: The problems.
        reference: ``reference_of(batch)``, to use it for many samplers.
        floor: ``noise_floor(reference, num_reads)``, likewise.
        estimator: How reads become gradients.
        seed: Seed of reference and floor where they are not given.

    Raises:
        ValueError: `samples` are not reads of `batch`, `floor` is that of another number of reads,
            or a weight is no count.
    """
    reference = reference_of(batch, seed=seed) if reference is None else reference
    apart = reads_apart(samples, batch)
    counts = total_weights(apart)
    if floor is None:
        floor = noise_floor(reference, counts, seed=seed, estimator=estimator)
    if not torch.allclose(floor.num_reads, counts):
        raise ValueError(
            f"Argument `floor` must be that of {counts.mean():g} reads, "
            f"but is that of {floor.num_reads.mean():g}."
        )
    values = measure(apart, reference, estimator=estimator)
    scores = {}
    for name, metric in METRICS.items():
        if name in values:
            score = _score(values[name], floor.values[name], metric)
            if score is not None:
                scores[name] = score
    data = regression(apart, reference)
    each, covariance = fit_betas_of_each(*data)
    betas, one = None, None
    try:
        betas = fit_betas(*data)
        fit = fit_beta(*data)
        one = fit.beta, fit.standard_error, fit.p_value
    except ValueError:  # reads of nothing but ground states fix no temperature
        pass
    return Quality(
        scores,
        values,
        {name: value.nanmean(0) for name, value in floor.values.items()},
        betas,
        one,
        each,
        covariance.diagonal(dim1=1, dim2=2).sqrt(),
        counts,
        reference.is_exact,
        bool((counts / reference.effective_states).mean() >= READS_PER_STATE),
    )


def _score(value: Tensor, floor: Tensor, metric: Metric) -> Score | None:
    """None where exact reads or these have no value."""
    of_floor = over_problems(floor, metric)
    found = float(over_problems(value, metric))
    if math.isnan(found) or not bool(of_floor.isfinite().all()):
        return None
    mean, sd = float(of_floor.mean()), float(of_floor.std())
    if mean <= 0:
        return None
    error = sd / mean * math.sqrt(1 + 1 / len(of_floor))
    return Score(found, mean, sd, found / mean, error)


def over_problems(values: Float[Tensor, "*repeats problems"], metric: Metric) -> Tensor:
    """One value of many problems' values.

    Problems without a value do not count, except for a median: a temperature that the reads do not
    fix is infinitely far off. The size of a mean is for figures that are negative as often as
    positive at the floor. nan where no problem has a value.
    """
    if metric.over_problems == "median":
        if bool(values.isnan().all()):
            return values.mean(-1)
        median: Tensor = values.nan_to_num(math.inf, posinf=math.inf).median(-1).values
        return median
    if metric.over_problems == "max":
        largest: Tensor = values.nan_to_num(-math.inf).amax(-1)
        return torch.where(largest.isinf(), torch.nan, largest)
    if metric.over_problems == "rms":
        return values.square().nanmean(-1).sqrt()
    mean = values.nanmean(-1)
    return mean.abs() if metric.over_problems == "size of mean" else mean


def _plain(x: float) -> float | None:
    return x if math.isfinite(x) else None
