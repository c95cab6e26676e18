"""The filter that follows a device's betas."""

import math

import numpy as np
import pytest
import torch

from qattn.hardware.calls.tracking import BetaTracker
from qattn.pseudolikelihood import BetaFit


def fit(r_h, r_J, error=0.02):
    return BetaFit(r_h, r_J, torch.eye(2, dtype=torch.float64) * error**2, 40)


def measured(rng, truth, used, error=0.02):
    """Factors that noisy reads of a device at `truth` show, programmed with `used`."""
    return fit(
        *(t / u * math.exp(error * rng.standard_normal()) for t, u in zip(truth, used, strict=True))
    )


def test_noise_is_averaged_and_the_error_is_stated():
    """A device that does not drift: 100 calls bring the error to a tenth of one call's.

    Design: the estimate's standard error after N calls without drift is at most error/√N, here
    0.2%; the bound is five of them.
    """
    rng, truth = np.random.default_rng(0), (8.0, 10.0)
    tracker = BetaTracker((7.5, 10.5), np.diag([0.25, 0.25]), drift=0.0)
    for _ in range(100):
        tracker.update(measured(rng, truth, tracker.betas), tracker.betas)
    for found, true, error in zip(tracker.betas, truth, tracker.standard_errors, strict=True):
        assert error == pytest.approx(0.002 * true, rel=0.05)
        assert abs(found - true) <= 5 * error


def test_one_call_moves_the_betas_little():
    tracker = BetaTracker((8.0, 10.0), np.diag([8e-4, 1e-3]))
    tracker.update(fit(1.5, 0.7), tracker.betas)
    assert 8.0 < tracker.betas[0] < 1.1 * 8.0
    assert 0.9 * 10.0 < tracker.betas[1] < 10.0


def test_what_the_problems_do_not_fix_stays():
    tracker = BetaTracker((8.0, 10.0))
    tracker.update(fit(math.nan, 1.1), tracker.betas)
    assert tracker.betas[0] == pytest.approx(8.0)
    assert tracker.betas[1] > 10.0
    before = tracker.betas
    tracker.update(fit(math.nan, -0.2), tracker.betas)
    assert tracker.betas == before


def test_correlated_errors_are_understood():
    """A fit that knows β_h + β_J well and their difference badly moves them together."""
    tracker = BetaTracker((8.0, 8.0), np.diag([0.64, 0.64]))
    covariance = torch.tensor([[1.0, -0.999], [-0.999, 1.0]], dtype=torch.float64) * 0.25
    tracker.update(BetaFit(1.1, 1.1, covariance, 40), tracker.betas)
    assert tracker.betas[0] == pytest.approx(tracker.betas[1])
    assert tracker.betas[0] > 8.7


def test_state_goes_on_to_the_bit():
    rng, one = np.random.default_rng(1), BetaTracker((8.0, 10.0))
    one.update(measured(rng, (8.1, 9.9), one.betas), one.betas)
    two = BetaTracker((1.0, 1.0))
    two.load_state_dict(one.state_dict())
    assert two.betas == one.betas
    step = measured(rng, (8.1, 9.9), one.betas)
    one.update(step, one.betas)
    two.update(step, two.betas)
    assert two.betas == one.betas
    assert two.standard_errors == one.standard_errors


def test_betas_are_untouched_before_the_first_call():
    assert BetaTracker((9.0, 11.0)).betas == (9.0, 11.0)
