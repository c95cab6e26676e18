"""Curves through values at several lengths, with their uncertainty over seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy import stats

from qattn.experiments.statistics.forms import EXPONENTS, FORMS, Lengths, Parameters
from qattn.experiments.statistics.holm import holm
from qattn.experiments.statistics.paired import LEVEL


@dataclass(frozen=True, eq=False)
class Fit:
    r"""Least squares through the means over seeds, with the seeds' uncertainty.

    The same seeds are trained at every length, so their values scatter together and the points are
    not independent. What the fit gives, a parameter or the curve at a length, is therefore
    followed through a jackknife over seeds: with :math:`θ` of all n seeds and :math:`θ_{-i}`
    without seed i at all lengths, the n numbers :math:`n θ - (n - 1) θ_{-i}` are treated as one
    estimate a seed, by Student's t. For the logarithm these are exactly the fits of the single
    seeds; for the power law, where a single seed may not determine b, they stay stable.

    Attributes:
        form: Name of the form: "logarithm" or "power law".
        lengths: The lengths T.
        values: Values (seeds, lengths); nan where a seed was not trained at a length.

    Raises:
        ValueError: The form is unknown, a length has no seed, or there are fewer lengths than
            parameters, so that every curve fits.

    Example:
        >>> fit = Fit("logarithm", [4, 8, 16], [[7.0, 6.5, 6.1], [7.1, 6.7, 6.1], [7.1, 6.6, 6.3]])
        >>> low, high = fit.intervals["b"]
        >>> f"b = {fit.parameters['b']:.2f}, {low:.2f} to {high:.2f}, R² = {fit.r_squared:.3f}"
        'b = -0.65, -0.83 to -0.47, R² = 1.000'
    """

    form: str
    lengths: Sequence[int] | Sequence[float]
    values: Sequence[Sequence[float]]

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ValueError(
                f"Argument `form` must be one of {', '.join(FORMS)}, but is {self.form!r}."
            )
        if self.table.ndim != 2 or self.table.shape[1] != len(self.T):
            raise ValueError(
                f"Argument `values` must have shape (seeds, {len(self.T)}), one column for each "
                f"length, but has shape {self.table.shape}."
            )
        if np.isnan(self.table).all(0).any():
            raise ValueError("Argument `values` must have a seed at every length, but has not.")
        parameters = len(FORMS[self.form].names)
        if len(np.unique(self.T)) <= parameters:
            raise ValueError(
                f"Argument `lengths` must be more than the {parameters} parameters of "
                f"{FORMS[self.form].formula}, but is {list(self.lengths)}."
            )

    @property
    def formula(self) -> str:
        """The form as a formula."""
        return FORMS[self.form].formula

    @cached_property
    def T(self) -> Lengths:
        """The lengths as an array."""
        return np.asarray(self.lengths, dtype=float)

    @cached_property
    def table(self) -> Float[ndarray, "seeds lengths"]:
        """The values as an array."""
        return np.asarray(self.values, dtype=float)

    @property
    def means(self) -> Lengths:
        """Mean over seeds at each length."""
        return self._means(np.ones(len(self.table), dtype=bool))

    @cached_property
    def solution(self) -> Parameters:
        """The parameters, in the form's order."""
        return self._fitted(np.ones(len(self.table), dtype=bool))

    @property
    def parameters(self) -> dict[str, float]:
        """The parameters by name."""
        return dict(zip(FORMS[self.form].names, map(float, self.solution), strict=True))

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """95% interval of each parameter; without end for a single seed."""
        low, high = self._interval(self.solution, self._without_each)
        ends = zip(map(float, low), map(float, high), strict=True)
        return dict(zip(FORMS[self.form].names, ends, strict=True))

    @property
    def at_edge(self) -> bool:
        """Whether the exponent of a power law is at the edge of what is searched.

        At the lower one the data ask for the logarithm, into which the power law turns.
        """
        b = self.parameters["b"]
        return self.form == "power law" and not EXPONENTS[0] * 1.01 < b < EXPONENTS[1] / 1.01

    def at(self, T: Sequence[int] | Sequence[float] | Lengths) -> Lengths:
        """The curve at these lengths."""
        return FORMS[self.form].at(self.solution, np.asarray(T, dtype=float))

    def band(self, T: Sequence[int] | Sequence[float] | Lengths) -> tuple[Lengths, Lengths]:
        """95% band of the mean's curve at these lengths, each by itself."""
        points = np.asarray(T, dtype=float)
        curves = [FORMS[self.form].at(p, points) for p in self._without_each]
        return self._interval(self.at(points), np.array(curves).reshape(-1, len(points)))

    @property
    def residuals(self) -> Lengths:
        """Mean minus curve at each length."""
        difference: Lengths = self.means - self.at(self.T)
        return difference

    @property
    def residual_intervals(self) -> tuple[Lengths, Lengths]:
        """95% interval of each residual: one that leaves out 0 is no noise of the seeds."""
        return self._interval(self.residuals, self._residuals_without_each)

    @property
    def lack_of_fit(self) -> float:
        """p of the residual that is furthest from 0, Holm-adjusted over lengths.

        Below 5% the form is not adequate. nan where seeds are too few to say.
        """
        error = self._error(self.residuals, self._residuals_without_each)
        known = (error > 0) & np.isfinite(error)
        if not known.any():
            return math.nan
        t = np.abs(self.residuals[known]) / error[known]
        p = 2 * stats.t.sf(t, len(self.table) - 1)
        return min(holm([float(each) for each in p]))

    @property
    def r_squared(self) -> float:
        """Share of the means' variance over lengths that the curve explains."""
        total = float(((self.means - self.means.mean()) ** 2).sum())
        return 1 - float((self.residuals**2).sum()) / total if total else math.nan

    def _fitted(self, seeds: Bool[ndarray, " seeds"]) -> Parameters:
        """Parameters from the means over these seeds; nan if they leave too few lengths."""
        means = self._means(seeds)
        there, names = ~np.isnan(means), FORMS[self.form].names
        if len(np.unique(self.T[there])) < len(names):
            return np.full(len(names), np.nan)
        return FORMS[self.form].fit(self.T[there], means[there])

    def _means(self, seeds: Bool[ndarray, " seeds"]) -> Lengths:
        """Mean over these seeds at each length; nan at one that has none of them."""
        table = self.table[seeds]
        counts = (~np.isnan(table)).sum(0)
        return np.where(counts, np.nansum(table, 0) / np.maximum(counts, 1), np.nan)

    @cached_property
    def _kept(self) -> Bool[ndarray, "fits seeds"]:
        """All seeds but one, for each in turn; of a single seed no row."""
        seeds = len(self.table)
        return ~np.eye(seeds, dtype=bool)[: seeds if seeds > 1 else 0]

    @cached_property
    def _without_each(self) -> Float[ndarray, "fits parameters"]:
        """Parameters without each seed in turn."""
        fits = [self._fitted(seeds) for seeds in self._kept]
        return np.array(fits).reshape(-1, len(self.solution))

    @cached_property
    def _residuals_without_each(self) -> Float[ndarray, "fits lengths"]:
        """Residuals without each seed in turn."""
        curve = FORMS[self.form].at
        pairs = zip(self._kept, self._without_each, strict=True)
        found = [self._means(seeds) - curve(p, self.T) for seeds, p in pairs]
        return np.array(found).reshape(-1, len(self.T))

    def _error(
        self, full: Float[ndarray, " k"], without: Float[ndarray, "fits k"]
    ) -> Float[ndarray, " k"]:
        """Standard error by the jackknife; infinite where it has nothing to go by."""
        n = len(without)
        if n < 2:
            return np.full_like(full, np.inf)
        each = n * full - (n - 1) * without
        error = each.std(0, ddof=1) / math.sqrt(n)
        return np.where(np.isnan(error), np.inf, error)

    def _interval(
        self, full: Float[ndarray, " k"], without: Float[ndarray, "fits k"]
    ) -> tuple[Float[ndarray, " k"], Float[ndarray, " k"]]:
        """95% interval by the jackknife and Student's t."""
        half = self._error(full, without)
        if len(without) >= 2:
            half = half * float(stats.t.ppf(1 - LEVEL / 2, len(without) - 1))
        return full - half, full + half
