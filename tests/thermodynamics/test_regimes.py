"""How many positions hold the weight, and the regimes that follow."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qattn.layers import BoltzmannAttention
from qattn.thermodynamics import REGIMES, positions_held, regimes_by_head, regimes_of


@settings(derandomize=True, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.floats(0.05, 1))
def test_least_number_of_positions(seed, n, share):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(n, generator=generator, dtype=torch.float64) ** 4
    k = int(positions_held(weights, share))
    largest = sorted(weights.tolist(), reverse=True)
    assert sum(largest[:k]) >= share * sum(largest) * (1 - 2e-6)
    assert sum(largest[: k - 1]) < share * sum(largest)
    order = torch.randperm(n, generator=generator)
    assert positions_held(7.0 * weights[order], share) == k


def test_numbers_of_positions_by_hand():
    weights = torch.tensor([[0.1] * 10, [0.9] + [0.1 / 9] * 9, [0.0] * 10])
    assert positions_held(weights).tolist() == [9, 1, 0]
    assert positions_held(weights, 1.0).tolist() == [10, 10, 0]
    assert positions_held(weights, 0.5).tolist() == [5, 1, 0]


def test_regimes_of_gaussian_scores_follow_beta():
    """The random energy model of 256 states freezes at β = √(2 ln 256) = 3.33."""
    scores = torch.randn(200, 256, generator=torch.Generator().manual_seed(0))
    shares = {}
    for beta in (0.1, 2.0, 20.0):
        found = regimes_of((beta * scores).softmax(-1))
        shares[beta] = [(found == r).float().mean().item() for r in range(3)]
    assert shares[0.1][0] == 1
    assert shares[2.0][1] > 0.9
    assert shares[20.0][2] == 1
    assert [REGIMES[r] for r in range(3)] == ["averaging", "clustered", "retrieval"]


def test_borders_are_relative_to_the_positions_present():
    def equal(k, n):
        """k equal weights of n positions; 0.9 of 10 are 9."""
        return torch.cat([torch.full((k,), 1 / k), torch.zeros(n - k)])

    n = 64
    found = [int(regimes_of(equal(k, n))) for k in (1, 2, 3, 20, 35, 36, 64)]
    assert found == [2, 2, 1, 1, 1, 0, 0]
    present = torch.arange(n) < 20
    assert int(regimes_of(equal(20, n), present=present)) == 0
    assert int(regimes_of(equal(2, n), present=present)) == 1
    assert int(regimes_of(equal(1, n), present=torch.arange(n) < 3)) == -1
    assert int(regimes_of(torch.zeros(n))) == -1


def test_regimes_by_head_of_a_causal_layer():
    layer = BoltzmannAttention(8, 2, context=10)
    weights = layer.weights(torch.randn(3, 10, 8, generator=torch.Generator().manual_seed(0)))
    shares = regimes_by_head([weights.detach(), weights.detach()])
    assert shares.shape == (2, 2, 3)
    assert ((shares.sum(-1) - 1).abs() < 1e-12).all()
    # The first head attends to each position alike, the second to the last one alone.
    flat, last = torch.ones(10, 10).tril(), torch.eye(10)
    shares = regimes_by_head([torch.stack([flat, last])[None]])
    assert shares.tolist() == [[[1, 0, 0], [0, 0, 1]]]
    # Control: without the mask half of the even weights' positions are absent and hold nothing.
    assert regimes_by_head([flat[None, None]], is_causal=False)[0, 0, 0] < 1
    assert math.isnan(regimes_by_head([torch.ones(1, 1, 3, 3)])[0, 0, 0])


def test_arguments_out_of_range():
    with pytest.raises(ValueError, match="`share` must be above 0 and at most 1, but is 0"):
        positions_held(torch.ones(3), 0.0)
    with pytest.raises(ValueError, match="`weights` must not hold negative numbers or NaN"):
        positions_held(torch.tensor([1.0, math.nan]))
    with pytest.raises(ValueError, match="`weights` must have at least one layer"):
        regimes_by_head([])
