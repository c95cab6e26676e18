r"""Figures of merit beside their noise floor: the same number of independent exact reads.

.. math:: \text{ratio} = \frac{\text{figure of the reads}}{\text{figure of independent exact reads}}

is 1, within its error, for a sampler that is as good as exact, and its excess over 1 is the
sampler's fault and not that of few reads. A systematic error b of moments beside a floor f gives
√(1 + b²/f²); N such reads are worth N/ratio² independent ones.

Intervals are Student's t. Those of exact reads come from the R repeats of the floor: a further
ratio scatters around 1 by sd √(1 + 1/R)/floor, with R - 1 degrees of freedom. That of a sampler's
ratio comes from its problems, by a bootstrap over problems and repeats: what it would be on other
problems of the same kind.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from qattn.pseudolikelihood import BetaFit
from qattn.quality.autocorrelation import LONG_ENOUGH
from qattn.quality.metrics import Metric, Values

RESAMPLES = 200
"""Bootstrap samples for the error of a ratio."""


@dataclass(frozen=True, eq=False)
class Floor:
    """Figures of independent exact reads of some number.

    Attributes:
        num_reads: Reads of each problem.
        values: Values of each figure, shape (repeats, problems).
    """

    num_reads: Float[Tensor, " problems"]
    values: Mapping[str, Float[Tensor, "repeats problems"]] = field(repr=False)


@dataclass(frozen=True)
class Score:
    """A figure of all problems beside its floor.

    Attributes:
        value: The reads' value.
        floor: Mean over repeats with independent exact reads.
        floor_sd: Standard deviation of those repeats: the noise of a figure near the floor.
        ratio: ``value / floor``.
        ratio_error: Standard deviation of the ratio of exact reads around 1.
        repeats: Number of repeats that it was estimated from.
        error: Half of the 95% interval of the ratio, over problems; nan for a single problem.
    """

    value: float
    floor: float
    floor_sd: float
    ratio: float
    ratio_error: float
    repeats: int
    error: float

    def spread(self, level: float = 0.95) -> float:
        """Half of the interval around 1 in which ratios of exact reads are at this level."""
        return self.ratio_error * float(stats.t.ppf((1 + level) / 2, self.repeats - 1))


@dataclass(frozen=True, eq=False)
class Quality:
    """Judgement of the reads of a batch.

    Attributes:
        scores: Figures over all problems, by the names of :data:`METRICS`; those that have no
            value (no fields, one spin, lost order, chains too short for a τ) are left out.
        per_problem: The same of each problem.
        floor_per_problem: Mean of each over exact reads.
        betas: β_h and β_J fitted to all problems together; None where the reads do not fix them.
            Clustered by problem from 20 problems on, else for independent reads.
        one_beta: One β for both, its standard error, and the p-value of β_h = β_J; or None.
        betas_of_each: The same of each problem, shape (problems, 2); nan where not fixed.
        errors_of_each: Their standard errors.
        num_reads: Reads of each problem.
        effective_counts: Independent reads with the noise of their weights.
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
    effective_counts: Float[Tensor, " problems"]
    is_exact: bool
    states_resolved: bool

    @property
    def order_resolved(self) -> bool:
        """Whether the reads are 50 autocorrelation times long; True where their order is lost.

        Otherwise τ cannot be estimated: what comes out is too small.
        """
        time = float(self._times.mean())
        return float(self.num_reads.mean()) >= LONG_ENOUGH * time or self._order_is_lost

    @property
    def effective_reads(self) -> float:
        """Mean over the problems of N/τ, at most N; τ = 1 where the order of the reads is lost.

        N is less than the number of reads where their weights are uneven. No more than an upper
        bound unless :attr:`order_resolved`.
        """
        return float((self.effective_counts / self._times).mean())

    @property
    def _order_is_lost(self) -> bool:
        return bool(self.per_problem["autocorrelation"].isnan().all())

    @property
    def _times(self) -> Tensor:
        return self.per_problem["autocorrelation"].nan_to_num(1.0).clamp_min(1.0)

    @property
    def equivalent_reads(self) -> float:
        """N/ratio² of the error of ⟨s⟩: how many independent exact reads err as much."""
        return float(self.num_reads.mean()) / self.scores["mean_rms"].ratio ** 2

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None for what is not finite."""
        betas = None
        if self.betas is not None:
            interval_h, interval_J = self.betas.interval()
            betas = {
                "beta_h": self.betas.beta_h,
                "beta_h_interval": interval_h,
                "beta_J": self.betas.beta_J,
                "beta_J_interval": interval_J,
            }
        if betas is not None and self.one_beta is not None:
            names = ("beta", "beta_error", "p_value_of_equality")
            betas |= dict(zip(names, self.one_beta, strict=True))
        values: dict[str, Any] = _plain(
            {
                "is_exact": self.is_exact,
                "states_resolved": self.states_resolved,
                "num_reads": self.num_reads,
                "scores": {name: vars(score) for name, score in self.scores.items()},
                "betas": betas,
                "betas_of_each": self.betas_of_each,
                "errors_of_each": self.errors_of_each,
                "order_resolved": self.order_resolved,
                "effective_reads": self.effective_reads,
                "equivalent_reads": self.equivalent_reads,
                "per_problem": self.per_problem,
            }
        )
        return values


def score_of(
    value: Float[Tensor, " problems"], floor: Float[Tensor, "repeats problems"], metric: Metric
) -> Score | None:
    """A figure of all problems beside its floor; None where reads or exact reads have no value."""
    of_floor = over_problems(floor, metric)
    of_reads = float(over_problems(value, metric))
    if math.isnan(of_reads) or not bool(of_floor.isfinite().all()):
        return None
    mean, sd = float(of_floor.mean()), float(of_floor.std())
    if mean <= 0:
        return None
    repeats = len(of_floor)
    error = sd / mean * math.sqrt(1 + 1 / repeats)
    over = _error_over_problems(value, floor, metric)
    return Score(of_reads, mean, sd, of_reads / mean, error, repeats, over)


def _error_over_problems(
    value: Float[Tensor, " problems"], floor: Float[Tensor, "repeats problems"], metric: Metric
) -> float:
    """Half of the 95% interval of the ratio, by a bootstrap over problems and repeats."""
    repeats, problems = floor.shape
    if problems < 2:
        return math.nan
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(problems, (RESAMPLES, problems), generator=generator)
    again = torch.randint(repeats, (RESAMPLES, repeats), generator=generator)
    # Floor of each repeat on each bootstrap sample of problems, then means over resampled repeats.
    of_floor = over_problems(floor[:, drawn], metric).T.gather(1, again).mean(1)
    ratios = over_problems(value[drawn], metric) / of_floor
    ratios = ratios[ratios.isfinite()]
    if len(ratios) < RESAMPLES / 2:
        return math.nan
    # The bootstrap's variance is that of n problems over n, not over n - 1.
    sd = float(ratios.std()) * math.sqrt(problems / (problems - 1))
    return sd * float(stats.t.ppf(0.975, problems - 1))


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


def _plain(value: Any) -> Any:
    """Tensors and tuples as lists, and None for a number that is not finite."""
    if isinstance(value, dict):
        return {key: _plain(x) for key, x in value.items()}
    if isinstance(value, Tensor):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
