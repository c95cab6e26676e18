"""Repeated attention: its energy falls, and where it ends."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from qattn.thermodynamics import hopfield_energy, hopfield_update, retrieve


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.floats(1e-2, 1e2), st.integers(1, 12), st.integers(1, 6))
def test_no_step_raises_the_energy(seed, beta, n, d):
    memories, start = normal(n, d, seed=seed), normal(8, d, seed=seed + 1)
    found = retrieve(start, memories, beta, steps=30)
    scale = memories.square().sum(-1).max() + start.square().sum(-1)
    assert (found.energies.diff(dim=0) <= 1e-13 * scale).all()
    # Bounds of Ramsauer et al. hold within the ball of the longest memory, where all steps end.
    assert (found.energies >= -1e-13 * scale).all()
    assert (found.energies[1:] <= 2 * memories.square().sum(-1).max() * (1 + 1e-12)).all()


def test_another_step_raises_the_energy():
    """Control: an update at a wrong sign or too long a step is no descent."""
    memories, start = normal(6, 4), normal(50, 4, seed=1)
    at_start = hopfield_energy(start, memories, 2.0)
    long_step = start + 3 * (hopfield_update(start, memories, 2.0) - start)
    for wrong in (hopfield_update(-start, memories, 2.0), long_step):
        assert (hopfield_energy(wrong, memories, 2.0) > at_start).any()


def test_one_step_is_attention():
    memories, start = normal(6, 4), normal(50, 4, seed=1)
    found = retrieve(start, memories, 0.5, steps=1)
    attention = F.scaled_dot_product_attention(start, memories, memories, scale=0.5)
    assert (found.state - attention).abs().max() < 1e-14
    assert not found.converged.any()
    assert found.energies.shape == (2, 50)
    assert (found.num_steps == 1).all()


def test_cold_attention_retrieves_and_hot_attention_averages():
    memories = F.normalize(normal(10, 32), dim=-1)
    cues = memories + 0.05 * normal(10, 32, seed=1)
    cold = retrieve(cues, memories, beta=50.0)
    assert cold.converged.all()
    assert (cold.state - memories).norm(dim=-1).max() < 1e-3
    hot = retrieve(cues, memories, beta=0.1)
    assert hot.converged.all()
    assert (hot.state - memories.mean(0)).norm(dim=-1).max() < 0.05
    assert (hot.state - memories).norm(dim=-1).min() > 0.5  # none is retrieved


def test_a_pair_of_memories_orders_at_beta_one():
    """Two memories ±x of length 1: ξ = tanh(βξ), with β_c = 1."""
    memories, start = torch.tensor([[1.0], [-1.0]]).double(), torch.tensor([0.2]).double()
    for beta, tolerance in ((0.5, 1e-9), (0.9, 1e-9), (2.0, 1e-12)):
        found = retrieve(start, memories, beta, steps=2000, tolerance=1e-13)
        assert found.converged
        m = float(found.state[0])
        assert abs(m - math.tanh(beta * m)) < 1e-12
        assert abs(m) < tolerance if beta < 1 else m > 0.9


def test_temperature_and_memories_of_each_state():
    memories, start = normal(3, 5, 4), normal(3, 4, seed=1)
    beta = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    together = retrieve(start, memories, beta, steps=500, tolerance=1e-15)
    for i in range(3):
        alone = retrieve(start[i], memories[i], float(beta[i]), steps=500, tolerance=1e-15)
        assert (together.state[i] - alone.state).abs().max() < 1e-12
        assert (together.energies[-1, i] - alone.energies[-1]).abs().max() < 1e-12


def test_arguments_out_of_range():
    with pytest.raises(ValueError, match="`steps` must be positive, but is 0"):
        retrieve(torch.ones(2), torch.ones(3, 2), 1.0, steps=0)
    with pytest.raises(ValueError, match="`beta` must be positive, but is -1"):
        retrieve(torch.ones(2), torch.ones(3, 2), -1.0)
