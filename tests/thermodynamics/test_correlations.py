"""Overlaps of independent states, and correlations against distance."""

import math

import pytest
import torch
from _support.brute_force import all_states, random_batch
from _support.closed_forms import chain

from qattn import IsingBatch
from qattn.thermodynamics import (
    correlation_length,
    correlations_by_distance,
    overlap_distribution,
    thermodynamic_curves,
)


def test_overlaps_are_those_of_all_pairs_of_states():
    batch = random_batch(6, 1.0, 1.0, seed=0)
    found = overlap_distribution(batch, beta=1.5)
    for g in range(2):
        for q in range(6):
            n = int(batch.num_active[g, q])
            S, J = all_states(n), batch.J[g, :n, :n].triu(1)
            energies = S @ batch.h[g, q, :n] + ((S @ J) * S).sum(1)
            p = (1.5 * batch.beta * energies).softmax(0)
            distances = ((n - S @ S.T) / 2).long()
            right = torch.zeros(7, dtype=torch.float64)
            right.index_add_(0, distances.flatten(), torch.outer(p, p).flatten())
            torch.testing.assert_close(found.probabilities[g, q], right, rtol=1e-9, atol=1e-12)
            last = [1 - 2 * d / n for d in range(n + 1)] if n else []
            assert found.overlaps[g, q, : len(last)].tolist() == pytest.approx(last)


def test_overlaps_of_many_spins_come_from_independent_reads():
    # Of 24 free spins: binomial, by the engine of chains, at 7 standard errors of 22 degrees of
    # freedom.
    batch = IsingBatch(torch.zeros(1, 1, 24, dtype=torch.float64), chain(24).J.scaled(0.0))
    found = overlap_distribution(batch, num_reads=1000, seed=0)
    right = torch.tensor([math.comb(24, d) for d in range(25)]).double() / 2**24
    seen = right > 0.01
    z = ((found.probabilities[0, 0] - right) / found.errors[0, 0])[seen]
    assert float(z.abs().max()) < 7
    curves = thermodynamic_curves(batch, [1.0], num_reads=1000, seed=0)
    q2, q4 = (float((right * found.overlaps[0, 0] ** k).sum()) for k in (2, 4))
    error = 5 * float(curves.errors["overlap_binder"])
    assert abs(float(curves.overlap_binder) - 1 + q4 / (3 * q2**2)) < error


def test_correlations_of_a_chain_decay_over_their_length():
    # tanh(β)^d, whose length is -1/ln tanh β; a long chain, so that it decays within.
    found = correlations_by_distance(chain(60), beta=1.0)
    d = torch.arange(60)
    torch.testing.assert_close(found.values[0, 0], math.tanh(1.0) ** d.double())
    length = -1 / math.log(math.tanh(1.0))
    # Σ d² t^d = t(1 + t)/(1 - t)³ instead of the integral.
    t = math.tanh(1.0)
    on_the_lattice = (t / (1 - t) ** 2) ** 0.5
    assert float(correlation_length(found)) == pytest.approx(on_the_lattice, rel=1e-4)
    assert on_the_lattice == pytest.approx(length, rel=0.02)


def test_correlations_are_means_over_the_spins_that_are_there():
    batch = random_batch(6, 1.0, 1.0, seed=1)
    found = correlations_by_distance(batch)
    for q in range(6):
        n = int(batch.num_active[0, q])
        S, J = all_states(n), batch.J[0, :n, :n].triu(1)
        p = (batch.beta * (S @ batch.h[0, q, :n] + ((S @ J) * S).sum(1))).softmax(0)
        covariance = (S * p[:, None]).T @ S - torch.outer(p @ S, p @ S)
        right = [float(covariance.diagonal(d).mean()) for d in range(n)]
        assert found.values[0, q, :n].tolist() == pytest.approx(right, abs=1e-10)
        assert bool(found.values[0, q, n:].isnan().all())


def test_sparse_couplings_of_many_spins_are_solved_by_their_tree():
    dense = IsingBatch(chain(30).h, chain(30).J.dense())
    torch.testing.assert_close(
        correlations_by_distance(dense).values, correlations_by_distance(chain(30)).values
    )
