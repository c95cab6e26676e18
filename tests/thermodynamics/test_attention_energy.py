"""Free energies of attention: limits, derivatives, and the output as minus their gradient."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from qattn import IsingBatch, boltzmann_attention, exact
from qattn.thermodynamics import (
    attention_energies,
    attention_force,
    attention_free_energy,
    attention_log_partition,
    ising_force,
    ising_free_energy,
)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def coupled_queries(beta=1.0):
    """Two heads of three queries of up to five spins."""
    J = normal(2, 5, 5, seed=1).triu(1)
    lengths = torch.tensor([5, 3, 1])
    return IsingBatch(normal(2, 3, 5), J + J.mT, lengths, beta)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.floats(0.01, 20))
def test_softmax_attention_is_minus_the_gradient_of_its_free_energy(seed, beta):
    query, key = normal(2, 6, 4, seed=seed), normal(2, 6, 4, seed=seed + 1)
    mask = torch.ones(6, 6, dtype=torch.bool).tril()
    force = attention_force(query, key.unsqueeze(1), beta, mask)
    output = F.scaled_dot_product_attention(query, key, key, attn_mask=mask, scale=beta)
    assert (force - output).abs().max() < 1e-12
    assert not force.requires_grad


def test_the_identity_is_one_of_keys_temperature_and_mask():
    query, key = normal(3, 4), normal(5, 4, seed=1)
    force = attention_force(query, key, 0.5)
    assert (force - (query @ key.mT * 0.5).softmax(-1) @ key).abs().max() < 1e-12
    for wrong in (
        (query @ key.mT).softmax(-1) @ key,
        (query @ key.mT * 0.5).softmax(-1) @ normal(5, 4, seed=2),
        attention_force(query, key, 0.5, torch.tensor([True, True, True, True, False])),
    ):
        assert (force - wrong).abs().max() > 0.05


def test_derivatives_by_temperature_and_query():
    query, key = normal(3, 4).requires_grad_(), normal(5, 4, seed=1)
    beta = torch.tensor([0.3, 1.0, 4.0], dtype=torch.float64, requires_grad=True)
    # ∂ ln Z/∂β = -U.
    (minus_u,) = torch.autograd.grad(attention_log_partition(query, key, beta).sum(), beta)
    p = (beta.unsqueeze(-1) * (query @ key.mT)).softmax(-1)
    U = (p * attention_energies(query, key)).sum(-1)
    assert (minus_u + U).abs().max() < 1e-12
    # The force's own gradient by the query is β times the covariance of the keys.
    (row,) = torch.autograd.grad(attention_force(query, key, beta)[:, 0].sum(), query)
    mean = p @ key
    covariance = (p * key[:, 0]) @ key - mean[:, :1] * mean
    assert (row - beta.unsqueeze(-1) * covariance).abs().max() < 1e-12


def test_limits_of_the_free_energy():
    query, key = normal(4), normal(7, 4, seed=1)
    energies = attention_energies(query, key)
    assert abs(attention_free_energy(query, key, 1e4) - energies.min()) < 1e-3
    high = attention_free_energy(query, key, 1e-4) + math.log(7) / 1e-4
    assert abs(high - energies.mean()) < 1e-3
    nothing = torch.zeros(7, dtype=torch.bool)
    assert attention_log_partition(query, key, 1.0, nothing) == -torch.inf
    assert attention_log_partition(query, key, 0.0) == pytest.approx(math.log(7))


@pytest.mark.parametrize("beta", [1.0, 0.4, torch.tensor([0.5, 2.0], dtype=torch.float64)])
def test_magnetisations_are_minus_the_gradient_of_ising_free_energy(beta):
    batch = coupled_queries(beta)
    force = ising_force(batch)
    assert (force - exact.mean_spins(batch)).abs().max() < 1e-12
    weights = ising_force(batch, "occupations") / 2
    assert (weights - exact.occupations(batch)).abs().max() < 1e-12
    flipped = IsingBatch(batch.h, -batch.matrix, batch.lengths, beta)
    assert (force - exact.mean_spins(flipped)).abs().max() > 0.05


def test_free_energy_is_energy_minus_temperature_times_entropy():
    batch = coupled_queries(0.7)
    every = torch.cartesian_prod(*[torch.tensor([-1, 1])] * 5).expand(2, 3, -1, -1)
    # Over absent spins every state counts several times.
    copies = 2.0 ** (5 - torch.tensor([5, 3, 1], dtype=torch.float64))
    p = exact.log_prob(batch, every).exp() / copies[:, None]
    U = (p * batch.energies(every)).sum(-1)
    S = -(p * (p * copies[:, None]).log()).sum(-1)
    assert (ising_free_energy(batch) - (U - S / 0.7)).abs().max() < 1e-12


def test_boltzmann_attention_is_minus_the_gradient_of_its_free_energy():
    n, d = 5, 4
    query, key = normal(1, 1, n, d).requires_grad_(), normal(1, 1, n, d, seed=1)
    J = normal(1, n, n, seed=2).triu(1)
    J = J + J.mT
    output = boltzmann_attention(query, key, key, J, field_bias=-0.5, is_causal=True)
    h = (query[0] @ key[0].mT / d**0.5 - 0.5) / 2
    batch = IsingBatch(h, J, torch.arange(1, n + 1))
    F_n = ising_free_energy(batch, "occupations").sum()
    (gradient,) = torch.autograd.grad(F_n, query, retain_graph=True)
    assert (output + d**0.5 * gradient).abs().max() < 1e-12
    (of_spins,) = torch.autograd.grad(ising_free_energy(batch).sum(), query)
    assert (output + d**0.5 * of_spins).abs().max() > 0.1  # half the sum of the keys is missing


@pytest.mark.usefixtures("as_users_call")
def test_arguments_out_of_range():
    query, key = normal(4), normal(7, 4, seed=1)
    with pytest.raises(ValueError, match="`beta` must be positive for a free energy, but is 0"):
        attention_free_energy(query, key, 0.0)
    with pytest.raises(ValueError, match="`beta` must be positive"):
        ising_free_energy(coupled_queries(torch.tensor([0.0, 1.0])))
    with pytest.raises(ValueError, match="`variables` must be 'spins' or 'occupations'"):
        ising_free_energy(coupled_queries(), "n")
