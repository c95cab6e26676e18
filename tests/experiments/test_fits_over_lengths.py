"""Fits over lengths: exact on their own form, uncertainty by seeds, and which form is adequate."""

import math

import numpy as np
import pytest
from scipy import stats

from qattn.experiments.statistics import Fit

T = [4, 6, 8, 10, 12, 14, 16, 18, 20]
LOGS = np.log(T)


def simulated(rng, curve, seeds=10, noise=0.05):
    """Values of seeds that scatter together and at each length."""
    return curve + noise * rng.normal(size=(seeds, 1)) + noise * rng.normal(size=(seeds, len(T)))


@pytest.mark.parametrize(
    ("form", "curve", "parameters"),
    [
        ("logarithm", 9.0 - 1.3 * LOGS, {"a": 9.0, "b": -1.3}),
        ("power law", 5.0 + 8.0 * np.exp(-0.7 * LOGS), {"c": 5.0, "a": 8.0, "b": 0.7}),
        ("power law", 5.0 - 3.0 * np.exp(-2.5 * LOGS), {"c": 5.0, "a": -3.0, "b": 2.5}),
    ],
)
def test_form_fits_itself(form, curve, parameters):
    fit = Fit(form, T, [curve.tolist()])
    assert fit.parameters == pytest.approx(parameters, rel=1e-3)
    assert fit.at([5, 256]) == pytest.approx(Fit(form, T, [curve.tolist()] * 3).at([5, 256]))
    assert fit.r_squared == pytest.approx(1.0)
    assert np.abs(fit.residuals).max() < 1e-5
    assert not fit.at_edge


def test_least_squares_cannot_be_bettered():
    curve = simulated(np.random.default_rng(0), 5 + 8 * np.exp(-0.7 * LOGS)).mean(0)
    fit = Fit("power law", T, [curve.tolist()])
    best = (fit.residuals**2).sum()
    for step in np.eye(3) * 1e-3:
        for sign in (-1, 1):
            c, a, b = fit.solution + sign * step
            assert ((c + a * np.array(T) ** -b - curve) ** 2).sum() > best
    offset_slope = Fit("logarithm", T, [curve.tolist()])
    assert np.polyfit(LOGS, curve, 1)[::-1] == pytest.approx(offset_slope.solution)


def test_logarithms_uncertainty_is_that_of_the_single_seeds():
    values = simulated(np.random.default_rng(1), 9.0 - 1.3 * LOGS)
    fit = Fit("logarithm", T, values.tolist())
    slopes = [np.polyfit(LOGS, row, 1)[0] for row in values]
    half = stats.t.ppf(0.975, 9) * stats.sem(slopes)
    expected = np.mean(slopes) - half, np.mean(slopes) + half
    assert fit.intervals["b"] == pytest.approx(expected)
    low, high = fit.band([1.0])  # ln 1 = 0: the offset
    assert (low[0], high[0]) == pytest.approx(fit.intervals["a"])


def test_intervals_of_the_power_law_cover():
    """100 data sets: the exponent and the curve are within 5 standard errors of 95% covered."""
    rng = np.random.default_rng(2)
    exponents, curves = 0, 0
    for _ in range(100):
        fit = Fit("power law", T, simulated(rng, 5 + 8 * np.exp(-0.7 * LOGS)).tolist())
        exponents += fit.intervals["b"][0] <= 0.7 <= fit.intervals["b"][1]
        low, high = fit.band([9])
        curves += low[0] <= 5 + 8 * 9**-0.7 <= high[0]
    for covered in (exponents, curves):
        assert abs(covered / 100 - 0.95) <= 5 * math.sqrt(0.95 * 0.05 / 100)


def test_lack_of_fit_tells_forms_apart():
    """The right form is called inadequate in at most 5% of 200 data sets, the wrong one always."""
    rng = np.random.default_rng(3)
    wrong = 0
    for _ in range(200):
        fit = Fit("logarithm", T, simulated(rng, 9.0 - 1.3 * LOGS).tolist())
        wrong += fit.lack_of_fit < 0.05
    assert 0 < wrong / 200 <= 0.05 + 5 * math.sqrt(0.05 * 0.95 / 200)
    values = simulated(rng, 5 + 8 * np.exp(-0.7 * LOGS)).tolist()
    bent = Fit("logarithm", T, values)
    assert bent.lack_of_fit < 1e-4
    low, high = bent.residual_intervals
    assert low[0] > 0
    assert high[3] < 0
    assert Fit("power law", T, values).lack_of_fit > 0.05


def test_power_law_of_a_logarithm_is_at_the_edge():
    values = simulated(np.random.default_rng(4), 9.0 - 1.3 * LOGS, noise=1e-4).tolist()
    power, logarithm = Fit("power law", T, values), Fit("logarithm", T, values)
    assert power.at_edge
    assert power.at(T) == pytest.approx(logarithm.at(T), abs=0.02)


def test_seeds_that_lengths_lack():
    values = simulated(np.random.default_rng(5), 9.0 - 1.3 * LOGS)
    values[3:, -1] = values[1:, -2] = np.nan
    fit = Fit("logarithm", T, values.tolist())
    assert np.isfinite(fit.intervals["b"]).all()
    assert fit.means[-1] == pytest.approx(values[:3, -1].mean())
    low, high = fit.residual_intervals
    assert (low[-2], high[-2]) == (-math.inf, math.inf)  # one seed: its residual has no error
    assert np.isfinite(low[-1])
    assert 0 <= fit.lack_of_fit <= 1


def test_one_seed_has_a_curve_and_no_interval():
    fit = Fit("power law", T, simulated(np.random.default_rng(6), 9.0 - LOGS, seeds=1).tolist())
    assert fit.intervals["b"] == (-math.inf, math.inf)
    assert np.isinf(fit.band([4.0, 20.0])).all()
    assert math.isnan(fit.lack_of_fit)


@pytest.mark.parametrize(
    ("form", "lengths", "values", "message"),
    [
        ("square", T, [[1.0] * 9], "`form` must be one of logarithm, power law"),
        ("logarithm", T, [[1.0] * 8], r"must have shape \(seeds, 9\).*\(1, 8\)"),
        ("logarithm", [4, 6, 8], [[1.0, math.nan, 2.0]], "a seed at every length"),
        ("power law", [4, 6, 8], [[1.0, 2.0, 3.0]], "more than the 3 parameters of c"),
    ],
)
def test_errors(form, lengths, values, message):
    with pytest.raises(ValueError, match=message):
        Fit(form, lengths, values)
