r"""Effective inverse temperatures of reads by pseudo-likelihood, with their uncertainties.

.. math::
    \max_{\beta_h, \beta_J} \sum_s P(s) \sum_i \log \sigma\big(2 s_i (\beta_h h_i
    + \beta_J \textstyle\sum_j J_{ij} s_j)\big)

is a logistic regression without intercept: convex, and consistent, because a Boltzmann
distribution has exactly these conditionals (Besag, J. R. Stat. Soc. B 36, 192 (1974)). The terms of
one read are not independent, so the inverse of the curvature is not the covariance. That is
Godambe's sandwich

.. math::
    \mathrm{Cov}(\hat\beta) = H^{-1} V H^{-1}, \qquad
    V = \tfrac{m}{m-1} \sum_{c=1}^{m} u_c u_c^T,

with H the curvature and u_c the sum of the slopes of everything in cluster c: a read, or a problem
with all its reads (Varin, Reid and Firth, Statistica Sinica 21, 5 (2011), section 2.3).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from qattn.pseudolikelihood.newton import CLUSTERS, Terms, maximum

Interval = tuple[float, float]


@dataclass(frozen=True, eq=False)
class BetaFit:
    r"""Fitted β_h and β_J; nan for one that the data do not fix.

    Attributes:
        beta_h: Inverse temperature that the fields see.
        beta_J: Inverse temperature that the couplings see.
        covariance: Covariance matrix of the two, in this order; nan where the reads of all problems
            are equal, which show no spread to estimate it from.
        num_clusters: Number of independent reads, or of problems, that it was estimated from.
    """

    beta_h: float
    beta_J: float
    covariance: Float[Tensor, "2 2"]
    num_clusters: int

    @property
    def standard_errors(self) -> tuple[float, float]:
        """Standard errors of β_h and of β_J."""
        of_h, of_J = self.covariance.diagonal().sqrt().tolist()
        return of_h, of_J

    @property
    def values(self) -> tuple[float, float]:
        """β_h and β_J."""
        return self.beta_h, self.beta_J

    def interval(self, level: float = 0.95) -> tuple[Interval, Interval]:
        """Confidence intervals of β_h and of β_J, each at this level (Student's t)."""
        of_h, of_J = (
            _interval(value, error, self.num_clusters, level)
            for value, error in zip(self.values, self.standard_errors, strict=True)
        )
        return of_h, of_J

    def p_value_of_equality(self) -> float:
        r"""Wald's test of β_h = β_J: how likely a difference of this size is if they are equal.

        nan where one of them is not fixed.
        """
        contrast = torch.tensor([1.0, -1.0], dtype=self.covariance.dtype)
        error = math.sqrt(float(contrast @ self.covariance @ contrast))
        t = abs(self.beta_h - self.beta_J) / error if error > 0 else math.nan
        return float(2 * stats.t.sf(t, self.num_clusters - 1))


@dataclass(frozen=True)
class ScalarBetaFit:
    r"""One fitted β for fields and couplings alike.

    Attributes:
        beta: The inverse temperature.
        standard_error: Its standard error; nan where all reads are equal.
        num_clusters: Number of independent reads, or of problems, that it was estimated from.
        p_value: Of Wald's test of β_h = β_J: small where one β does not fit; nan where the data do
            not fix both.
    """

    beta: float
    standard_error: float
    num_clusters: int
    p_value: float

    def interval(self, level: float = 0.95) -> Interval:
        """Confidence interval at this level (Student's t)."""
        return _interval(self.beta, self.standard_error, self.num_clusters, level)


def fit_betas(
    h: Float[Tensor, "problems n"],
    J: Float[Tensor, "problems n n"],
    spins: Float[Tensor, "*problems reads n"],
    weights: Float[Tensor, "problems reads"],
    active: Tensor | None = None,
    *,
    clusters: str = "reads",
) -> BetaFit:
    r"""The (β_h, β_J) at which weighted states are most likely, one pair for all problems.

    p(s) ∝ exp(β_h Σ h s + β_J Σ J s s): (1, 1) if the states have the distribution of h and J.
    Every problem counts the same, whatever its number of reads. Without any field β_h is nan, and
    without any coupling β_J.

    Args:
        h: Fields of each problem, in the exponent's sign (a positive field favours +1).
        J: Couplings of each problem, in the exponent's sign (positive is ferromagnetic).
        spins: States in {-1, +1}: reads of each problem, or all 2^n states, shared.
        weights: How often each state was read; or exact probabilities, whose covariance is that of
            one read per problem.
        active: Which spins of each problem count, shape (problems, n); None means all.
        clusters: What is independent: "reads", for independent reads of exactly these h and J; or
            "problems", where all reads of a problem share an error of their own (a device's
            control error, for example), which takes two problems at least.

    Raises:
        ValueError: The data fix neither (no fields and no couplings, or states that do not differ
            from the most likely ones), or `clusters` has another value.
    """
    terms = _terms(h, J, spins, weights, active)
    (beta,), (covariance,), count = maximum(terms, "one", _checked(clusters, terms))
    if bool(beta.isnan().all()):
        raise ValueError(
            "The problems must have fields or couplings that are no multiples of each other, and "
            "reads must differ from the most likely states, for β_h and β_J to be fitted: draw "
            "more reads, or take weaker problems."
        )
    beta_h, beta_J = beta.tolist()
    return BetaFit(beta_h, beta_J, covariance, count)


def fit_betas_of_each(
    h: Float[Tensor, "problems n"],
    J: Float[Tensor, "problems n n"],
    spins: Float[Tensor, "*problems reads n"],
    weights: Float[Tensor, "problems reads"],
    active: Tensor | None = None,
) -> tuple[Float[Tensor, "problems 2"], Float[Tensor, "problems 2 2"]]:
    """:func:`fit_betas` of every problem by itself, for independent reads.

    Returns:
        (β_h, β_J) of each problem and their covariances; nan where its reads do not fix them.
    """
    beta, covariance, _ = maximum(_terms(h, J, spins, weights, active), "each", "reads")
    return beta, covariance


def fit_beta(
    h: Float[Tensor, "problems n"],
    J: Float[Tensor, "problems n n"],
    spins: Float[Tensor, "*problems reads n"],
    weights: Float[Tensor, "problems reads"],
    active: Tensor | None = None,
    *,
    clusters: str = "reads",
) -> ScalarBetaFit:
    r"""The one β = β_h = β_J at which weighted states are most likely, and whether one will do.

    Arguments as in :func:`fit_betas`.

    Raises:
        ValueError: The data do not fix β, or `clusters` has another value.
    """
    terms = _terms(h, J, spins, weights, active)
    restricted = terms._replace(basis=torch.ones(2, 1, dtype=torch.float64))
    (beta,), (variance,), count = maximum(restricted, "one", _checked(clusters, terms))
    if bool(beta.isnan().all()):
        raise ValueError(
            "The problems must have fields or couplings, and reads must differ from the most "
            "likely states, for β to be fitted: draw more reads, or take weaker problems."
        )
    (two,), (covariance,), _ = maximum(terms, "one", clusters)
    both = BetaFit(float(two[0]), float(two[1]), covariance, count)
    return ScalarBetaFit(float(beta), math.sqrt(float(variance)), count, both.p_value_of_equality())


def _terms(h: Tensor, J: Tensor, spins: Tensor, weights: Tensor, active: Tensor | None) -> Terms:
    """The regression of β_h and β_J, both free."""
    present = torch.ones_like(h, dtype=torch.bool) if active is None else active
    basis = torch.eye(2, dtype=torch.float64)
    return Terms(h, J, spins, weights, present, basis)


def _checked(clusters: str, terms: Terms) -> str:
    if clusters not in CLUSTERS:
        raise ValueError(f"Argument `clusters` must be 'reads' or 'problems', but is {clusters!r}.")
    if clusters == "problems" and len(terms.h) < 2:
        raise ValueError(
            f"Argument `h` must hold at least 2 problems for clusters='problems', "
            f"but holds {len(terms.h)}."
        )
    return clusters


def _interval(value: float, error: float, num_clusters: int, level: float) -> Interval:
    if not 0 < level < 1:
        raise ValueError(f"Argument `level` must be between 0 and 1, but is {level}.")
    reach = float(stats.t.ppf((1 + level) / 2, num_clusters - 1)) * error
    return value - reach, value + reach
