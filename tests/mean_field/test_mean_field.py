"""Mean-field moments against exact ones: values, estimates of their errors, gradients."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from qattn import IsingBatch, exact
from qattn.couplings import Banded
from qattn.mean_field import METHODS, NotConvergedWarning, mean_spins, solve

TABLE = {  # rms error of ⟨s⟩ at c = 0.1, 0.3, 1 for n = 12, as first studies had it
    "mean-field": (1.6e-3, 1.6e-2, 0.21),
    "tap": (5.0e-5, 1.4e-3, 5.4e-2),
    "adaptive-tap": (2.6e-5, 8.3e-4, 3.1e-2),
    "bethe": (4.1e-5, 1.2e-3, 4.5e-2),
}


def models(family, strength, spins=12, seeds=range(64)):
    """A group for each seed: fields of sd 1, couplings of the size strength/√n."""
    fields, couplings = [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        fields.append(torch.randn(1, spins, generator=generator, dtype=torch.float64))
        size = strength / math.sqrt(spins)
        U = size * torch.randn(spins, spins, generator=generator, dtype=torch.float64)
        U = {"sk": U, "ferromagnet": U.abs(), "antiferromagnet": -U.abs(), "band": U}[family]
        if family == "band":
            U = (U * math.sqrt(spins / 6)).tril(3)
        couplings.append(U.triu(1))
    J = torch.stack(couplings)
    return IsingBatch(torch.stack(fields), J + J.mT)


def true_error(solution, batch):
    return (solution.mean - exact.mean_spins(batch)).square().mean(-1).sqrt()


def share_within_two(estimated, true):
    return float(((estimated > true / 2) & (estimated < 2 * true)).double().mean())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("index", range(3))
def test_errors_are_those_of_the_first_studies(method, index):
    batch = models("sk", (0.1, 0.3, 1.0)[index])
    error = true_error(solve(batch, method), batch).square().mean().sqrt()
    # 64 problems, whose squared errors have heavy tails: a factor 1.5 either way.
    assert TABLE[method][index] / 1.5 < error < 1.5 * TABLE[method][index]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["sk", "ferromagnet", "antiferromagnet", "band"])
def test_estimates_of_errors_are_within_a_factor_of_two(method, family):
    batch = models(family, 0.3)
    solution = solve(batch, method)
    true = true_error(solution, batch)
    assert bool(solution.converged.all())
    assert share_within_two(solution.error, true) >= 0.95
    # Control: estimates of the same problems with half the couplings are not.
    assert share_within_two(solve(models(family, 0.15), method).error, true) < 0.1


@pytest.mark.parametrize("method", METHODS)
def test_estimates_hold_at_the_transition_where_solutions_are_trusted(method):
    batch = models("sk", 1.0)
    solution = solve(batch, method)
    sound = solution.converged
    assert sound.double().mean() > 0.5
    assert share_within_two(solution.error[sound], true_error(solution, batch)[sound]) >= 0.95


@pytest.mark.parametrize("method", METHODS)
def test_strong_couplings_are_flagged_or_have_a_large_error(method):
    batch = models("sk", 2.0)
    solution = solve(batch, method)
    wrong = true_error(solution, batch) > 0.2
    warned = ~solution.converged | (solution.error > 0.1)
    assert bool(wrong.any())
    assert warned[wrong].double().mean() > 0.95


@pytest.mark.parametrize("method", METHODS)
def test_a_ferromagnet_does_not_sit_at_zero_in_silence(method):
    J = 0.4 * (torch.ones(1, 10, 10) - torch.eye(10))
    batch = IsingBatch(torch.zeros(1, 1, 10), J)
    solution = solve(batch, method)
    assert not bool(solution.converged)
    assert float(solution.error) > 0.3
    with pytest.warns(NotConvergedWarning, match=f"1 of 1 queries have no {method} solution"):
        mean_spins(batch, method)
    weak = IsingBatch(torch.zeros(1, 1, 10), J / 10)
    assert bool(solve(weak, method).converged)


def test_bethe_is_exact_on_a_tree_and_knows_it():
    J = torch.zeros(1, 6, 6, dtype=torch.float64)
    for j, k in ((0, 1), (0, 2), (1, 3), (1, 4), (2, 5)):
        J[0, j, k] = J[0, k, j] = 0.3 + 0.1 * j - 0.2 * k
    h = torch.randn(1, 4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    batch = IsingBatch(h, J)
    solution = solve(batch, "bethe")
    torch.testing.assert_close(solution.mean, exact.mean_spins(batch), atol=1e-8, rtol=0)
    assert float(solution.error.max()) < 1e-8
    assert float(solve(batch, "tap").error.min()) > 1e-4


def small(seed=3, spins=4):
    """Fields, upper triangles, β by group, lengths."""
    generator = torch.Generator().manual_seed(seed)
    options = {"generator": generator, "dtype": torch.float64}
    h = torch.randn(2, 3, spins, **options)
    U = 0.25 * torch.randn(2, spins, spins, **options).triu(1)
    return h, U, torch.tensor([0.9, 1.2], dtype=torch.float64), torch.tensor([spins, 3, 1])


@pytest.mark.parametrize("method", METHODS)
def test_gradients_are_those_of_the_fixed_point(method):
    *inputs, lengths = small()

    def means(h, U, beta):
        batch = IsingBatch(h, U.triu(1) + U.triu(1).mT, lengths, beta, validate=False)
        return solve(batch, method, tolerance=1e-13, num_estimates=1).mean

    inputs = tuple(x.requires_grad_() for x in inputs)
    assert gradcheck(means, inputs, atol=1e-6, fast_mode=True)


@pytest.mark.parametrize(
    ("method", "bound"), [*zip(METHODS, (5e-2, 5e-3, 5e-3, 5e-3), strict=True)]
)
def test_gradients_approach_exact_covariances(method, bound):
    batch = models("sk", 0.1, seeds=range(8))
    found = []
    for moments in (lambda b: mean_spins(b, method), exact.mean_spins):
        h, J = batch.h.clone().requires_grad_(), batch.J.clone().requires_grad_()
        mean = moments(IsingBatch(h, J, validate=False))
        weights = torch.linspace(-1, 1, mean.numel(), dtype=torch.float64).reshape(mean.shape)
        found.append(torch.autograd.grad((mean * weights).sum(), (h, J)))
    for mine, true in zip(*found, strict=True):
        assert float((mine - true).norm() / true.norm()) < bound


@pytest.mark.parametrize("method", METHODS)
def test_members_of_a_vmap_are_as_alone(method):
    parts = [small(seed) for seed in (1, 2, 3)]
    h = torch.stack([p[0] for p in parts])
    J = torch.stack([p[1] + p[1].mT for p in parts])
    lengths = parts[0][3]

    def loss(h, J):
        return mean_spins(IsingBatch(h, J, lengths, validate=False), method).square().sum()

    together = torch.vmap(torch.func.grad(loss, argnums=(0, 1)))(h, J)
    for member in range(3):
        alone = torch.func.grad(loss, argnums=(0, 1))(h[member], J[member])
        for mine, theirs in zip(together, alone, strict=True):
            torch.testing.assert_close(mine[member], theirs)


@settings(max_examples=8)
@given(seed=st.integers(0, 1000), method=st.sampled_from(METHODS))
def test_gauge_permutation_and_absent_spins(seed, method):
    h, U, beta, _ = small(seed)
    J = U + U.mT
    mean = solve(IsingBatch(h, J, beta=beta), method).mean
    flip = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)
    order = torch.tensor([2, 0, 3, 1])
    flipped = solve(IsingBatch(h * flip, J * flip * flip[:, None], beta=beta), method).mean
    torch.testing.assert_close(flipped, mean * flip, atol=1e-8, rtol=0)
    moved = solve(IsingBatch(h[..., order], J[:, order][..., order], beta=beta), method).mean
    torch.testing.assert_close(moved, mean[..., order], atol=1e-8, rtol=0)
    short = solve(IsingBatch(h, J, torch.tensor([3, 3, 3]), beta), method)
    smaller = solve(IsingBatch(h[..., :3], J[:, :3, :3], beta=beta), method)
    torch.testing.assert_close(short.mean[..., :3], smaller.mean, atol=1e-8, rtol=0)
    torch.testing.assert_close(short.error, smaller.error, atol=1e-8, rtol=1e-6)
    assert bool((short.mean[..., 3] == 0).all())


def test_structures_are_taken_as_matrices_and_float32_is_near():
    banded = Banded(torch.full((2, 6, 2), 0.1))
    batch = IsingBatch(torch.linspace(-1, 1, 24).reshape(2, 2, 6), banded)
    mean = mean_spins(batch)
    assert torch.equal(mean, mean_spins(batch.dense()))
    assert mean.dtype == torch.float32
    dense = batch.dense()
    double = mean_spins(IsingBatch(dense.h.double(), dense.J.double()))
    torch.testing.assert_close(mean.double(), double, atol=1e-4, rtol=0)


def test_wrong_arguments_are_named():
    batch = models("sk", 0.1, seeds=range(1))
    with pytest.raises(ValueError, match="Argument `method` must be one of 'mean-field', 'tap'"):
        solve(batch, "plefka")
    with pytest.raises(ValueError, match="Argument `tolerance` must be positive, but is 0"):
        solve(batch, tolerance=0.0)
