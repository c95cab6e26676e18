"""Estimators of couplings with a structure: right, unbiased, the matrix's own."""

import math

import pytest
import torch
from _support.structures import STRUCTURES, structured_batch

from qattn import IsingBatch, SpinSamples, exact
from qattn.backends import Backend, ExactBackend, get_backend
from qattn.couplings import Banded, Cardinality
from qattn.estimators import bonds, draw, mean_spins, mean_spins_from
from qattn.ising.states import states
from qattn.problems import banded

OF_PAIRS = tuple(name for name in STRUCTURES if "band" in name or name in ("independent", "blocks"))


class Enumeration(Backend):
    """All states, each as often as it occurs among 1e12 reads."""

    takes_structure = True

    def sample(self, batch, *, num_reads, seed=None):
        G, Q, n = batch.h.shape
        s = states(n, torch.int8, torch.device("cpu")).expand(G, Q, -1, -1)
        absent = ~batch.active.expand(G, Q, n).unsqueeze(2)
        weights = 1e12 * exact.log_prob(batch, s).exp() / 2.0 ** absent.sum(-1)
        return SpinSamples(s.masked_fill(absent, 0), weights)


def gradients(function, batch, weights):
    """Derivatives of (function(batch)·weights).sum() in h and in the values of J."""
    dense = isinstance(batch.J, torch.Tensor)
    h, values = batch.h.clone(), (batch.J if dense else batch.J.values).clone()
    h, values = h.requires_grad_(), values.requires_grad_()
    J = values if dense else batch.J.with_values(values)
    model = IsingBatch(h, J, batch.lengths, batch.beta, validate=False)
    return torch.autograd.grad(
        (weights * function(model)).sum(), (h, values), materialize_grads=True
    )


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("estimator", ["callen", "moment", "score"])
def test_all_states_give_the_exact_gradient(name, estimator):
    batch = structured_batch(name, 6, seed=3)
    weights = torch.randn(batch.h.shape, dtype=torch.float64)

    def estimate(model):
        return mean_spins(model, Enumeration(), num_reads=2, estimator=estimator)

    torch.testing.assert_close(estimate(batch), exact.mean_spins(batch), atol=1e-9, rtol=0)
    found = gradients(estimate, batch, weights)
    expected = gradients(exact.mean_spins, batch, weights)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=0)


def through_the_matrix(batch, samples, estimator, weights):
    """Gradients by the estimator of the dense J, which covers all pairs."""
    return gradients(
        lambda model: mean_spins_from(samples, model.dense(), estimator=estimator), batch, weights
    )


@pytest.mark.parametrize("name", OF_PAIRS)
@pytest.mark.parametrize("estimator", ["callen", "moment"])
@pytest.mark.parametrize("weighted", [False, True])
def test_coupled_pairs_give_what_all_pairs_give(name, estimator, weighted, monkeypatch):
    """The same sums in another order: to rounding, in h and in the values."""
    batch = structured_batch(name, 11, seed=5)
    samples = exact.sample(batch, 9, seed=1)
    if weighted:
        samples = SpinSamples(samples.spins, torch.randint(1, 4, samples.spins.shape[:3]).double())
    weights = torch.randn(batch.h.shape, dtype=torch.float64)
    found = gradients(
        lambda model: mean_spins_from(samples, model, estimator=estimator), batch, weights
    )
    monkeypatch.setattr(bonds, "SPARSE", 0.0)
    expected = through_the_matrix(batch, samples, estimator, weights)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_sparse_matrix_gives_what_a_full_one_gives(dtype, weighted, monkeypatch):
    """Gradients of couplings that are zero included; float32 to its rounding."""
    batch = structured_batch("band of 1", 12, seed=4, dtype=dtype).dense()
    samples = exact.sample(batch, 20, seed=1)
    if weighted:
        samples = SpinSamples(samples.spins, torch.randint(1, 4, samples.spins.shape[:3]).double())
    weights = torch.randn(batch.h.shape).to(dtype)
    found = gradients(lambda model: mean_spins_from(samples, model), batch, weights)
    assert bonds.coupled_pairs(batch.J) is not None
    monkeypatch.setattr(bonds, "SPARSE", 0.0)
    expected = gradients(lambda model: mean_spins_from(samples, model), batch, weights)
    tolerance = 1e-10 if dtype == torch.float64 else 2e-5
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=0)
    assert (found[1][batch.J == 0].abs() > tolerance).any()


@pytest.mark.parametrize("estimator", ["callen", "moment"])
def test_gradients_of_a_band_are_unbiased(estimator):
    """20,000 sets of 5 reads at 5 sigma, two-sided; the gradient at β = 1.2 is seen to be off."""
    repetitions, n, width = 20_000, 6, 2
    generator = torch.Generator().manual_seed(2)
    h, values, g = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((1, 1, n), (1, n, width), (n,))
    )
    h, values = 0.4 * h, 0.5 * values
    many = IsingBatch(
        h.expand(repetitions, 1, n), Banded(values.expand(repetitions, n, width)), validate=False
    )
    found = gradients(
        lambda model: mean_spins(model, ExactBackend(), num_reads=5, estimator=estimator, seed=7),
        many,
        g,
    )
    for beta, right in ((1.0, True), (1.2, False)):
        batch = IsingBatch(beta * h, Banded(beta * values))
        for values_of, expected in zip(found, gradients(exact.mean_spins, batch, g), strict=True):
            error = values_of.std(0) / math.sqrt(repetitions)
            z = ((values_of.mean(0) - expected[0]).abs() / error)[error > 1e-9]
            assert (float(z.max()) < 5.0) is right


@pytest.mark.parametrize("estimator", ["callen", "moment", "score"])
def test_vmap_over_values_equals_a_loop(estimator):
    batch = structured_batch("band of 3", 5, seed=1)
    members = torch.stack([batch.J.values * factor for factor in (0.5, 1.0, 2.0)])

    def loss(h, values):
        model = IsingBatch(h, Banded(values), batch.lengths, validate=False)
        return mean_spins(model, Enumeration(), estimator=estimator).square().sum()

    gradient = torch.func.grad(loss, argnums=(0, 1))
    found = torch.func.vmap(gradient, in_dims=(None, 0))(batch.h, members)
    loop = [gradient(batch.h, values) for values in members]
    for a, b in zip(found, zip(*loop, strict=True), strict=True):
        torch.testing.assert_close(a, torch.stack(b), atol=1e-9, rtol=0)


def test_a_refined_backend_keeps_the_structure():
    """Forty spins in a band: no matrix can be enumerated. 5 sigma over 40 means of 2,000 reads."""
    batch = banded(1, 40, width=2)
    backend = get_backend("exact", refine_sweeps=1)
    found = backend.sample(batch, num_reads=2000, seed=0).mean_spins(torch.float64)
    mean = exact.mean_spins(batch)
    sigmas = (found - mean).abs() / ((1 - mean**2) / 2000).sqrt()
    assert float(sigmas.max()) < 5.7


def test_a_potential_reaches_the_backend_as_it_is():
    """Exactly two of six positions: no matrix has these reads."""
    batch = IsingBatch(torch.randn(2, 3, 6), Cardinality.subset(2, num_groups=2, num_spins=6))
    samples = draw(batch, ExactBackend(), num_reads=50, seed=0)
    assert bool(((samples.spins > 0).sum(-1) == 2).all())
