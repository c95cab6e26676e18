"""Hopfield memories: their energy, recall by exact moments, reads and dynamics, and where it fails.

Cues are patterns with 3 of 16 spins wrong: an overlap of 0.625, which recall must exceed.
"""

import pytest
import torch
from _support.qpu_backends import backend_of

from qattn import exact
from qattn.backends import ExactBackend
from qattn.hardware import EmulatedQPU
from qattn.thermodynamics import (
    hebbian_couplings,
    hopfield_batch,
    recall,
    recall_by_dynamics,
)


def networks(groups, patterns, n, wrong, seed=0):
    """Random patterns, and the first of each network with so many spins wrong."""
    generator = torch.Generator().manual_seed(seed)
    xi = 2 * torch.randint(2, (groups, patterns, n), generator=generator) - 1
    flipped = torch.rand(groups, 1, n, generator=generator).argsort(-1) < wrong
    return xi, torch.where(flipped, -1, 1) * xi[:, :1]


def first(found):
    """Overlaps with the pattern of the cue."""
    return found.overlaps[:, 0, 0]


def test_energy_is_that_of_overlaps():
    xi, cues = networks(3, 4, 10, 2)
    batch = hopfield_batch(xi, cues, beta=1.0, field=0.0)
    generator = torch.Generator().manual_seed(1)
    states = 2.0 * torch.randint(2, (3, 1, 50, 10), generator=generator).double() - 1
    m = states.squeeze(1) @ xi.double().mT / 10
    energies = 4 / 2 - 10 / 2 * m.square().sum(-1)
    assert (batch.energies(states).squeeze(1) - energies).abs().max() < 1e-12
    assert (hebbian_couplings(xi).diagonal(dim1=1, dim2=2) == 0).all()


def test_recall_grows_with_beta_below_capacity_and_fails_above():
    betas = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
    below, above = networks(40, 1, 16, 3), networks(160, 10, 16, 3)
    means = torch.stack([first(recall(*below, beta=beta)) for beta in betas]).mean(1)
    assert (means.diff() > 0).all()
    assert means[0] < 0.1
    assert means[-1] > 0.999
    overloaded = first(recall(*above, beta=8.0))
    assert overloaded.mean() + 5 * overloaded.std() / 160**0.5 < 0.625  # worse than the cue itself


def test_the_couplings_recall_and_not_the_field_alone():
    xi, cues = networks(40, 2, 16, 3)
    others = networks(40, 2, 16, 3, seed=1)[0]
    recalled = first(recall(xi, cues, beta=4.0))
    assert recalled.mean() - 5 * recalled.std() / 40**0.5 > 0.625
    # Control: the same cues in a network of other patterns.
    batch = hopfield_batch(others, cues, beta=4.0)
    control = (exact.mean_spins(batch) * xi[:, :1]).mean((1, 2))
    assert control.mean() + 5 * control.std() / 40**0.5 < 0.625


def test_without_a_cue_patterns_and_their_negatives_have_equal_shares():
    xi, cues = networks(3, 2, 12, 0)
    assert recall(xi, cues, beta=4.0, field=0.0).overlaps.abs().max() < 1e-12
    assert recall(xi, torch.zeros_like(cues), beta=4.0).overlaps.abs().max() < 1e-12


@pytest.mark.parametrize("backend", ["gibbs", "neal", ExactBackend()])
def test_backends_recall_as_exact_moments_do(backend):
    """Every overlap of 10 networks with 3 patterns within 5.5 standard errors.

    One of 30 exceeds that in 1e-6 of all seeds.
    """
    xi, cues = networks(10, 3, 12, 2)
    wanted = recall(xi, cues, beta=1.5)
    found = recall(xi, cues, beta=1.5, backend=backend, num_reads=1000, seed=0)
    pull = (found.overlaps - wanted.overlaps) / found.standard_errors
    assert pull.abs().max() < 5.5
    assert 0.5 < pull.square().mean() < 2  # and the errors are about right
    assert (wanted.standard_errors == 0).all()
    wrong = recall(xi, cues, beta=1.0)
    assert ((found.overlaps - wrong.overlaps) / found.standard_errors).abs().max() > 20


@pytest.mark.slow
def test_an_emulated_qpu_recalls_as_exact_moments_do(packings_are_kept):
    """As the backends above: 30 overlaps within 5.5 standard errors."""
    xi, cues = networks(10, 3, 8, 1)
    wanted = recall(xi, cues, beta=1.5)
    with EmulatedQPU(shape=(4, 4), seed=0) as qpu:
        backend = backend_of(qpu, packings_are_kept)
        try:
            found = recall(xi, cues, beta=1.5, backend=backend, num_reads=1000, seed=0)
        finally:
            backend.close()
    pull = (found.overlaps - wanted.overlaps) / found.standard_errors
    assert pull.abs().max() < 5.5
    assert 0.5 < pull.square().mean() < 2
    wrong = recall(xi, cues, beta=1.0)
    assert ((found.overlaps - wrong.overlaps) / found.standard_errors).abs().max() > 20


def test_one_read_has_no_standard_error():
    found = recall(*networks(1, 1, 4, 0), beta=1.0, backend="gibbs", num_reads=1, seed=0)
    assert found.standard_errors.isinf().all()


def test_dynamics_keeps_patterns_below_capacity_only():
    """n = 200, T = 0.05, 10% of the cue wrong: α = 0.05 against 0.3, capacity 0.138."""
    for load, recalled in ((0.05, True), (0.3, False)):
        xi, cues = networks(10, round(load * 200), 200, 20)
        found = recall_by_dynamics(xi, cues, beta=20.0, num_sweeps=30, num_reads=4, seed=0)
        m = first(found)
        error = 5 * m.std() / 10**0.5
        assert m.mean() - error > 0.95 if recalled else m.mean() + error < 0.8
        assert found.samples.spins.shape == (10, 1, 4, 200)


def test_dynamics_forgets_the_cue_above_the_critical_temperature():
    xi, cues = networks(10, 2, 200, 20)
    found = recall_by_dynamics(xi, cues, beta=0.5, num_sweeps=30, num_reads=20, seed=0)
    # Overlaps of independent spins have a variance of about 1/(n(1 - β)) in the disordered phase.
    assert first(found).abs().max() < 5 * (1 / (200 * 0.5 * 20)) ** 0.5


@pytest.mark.usefixtures("as_users_call")
def test_arguments_out_of_range():
    xi, cues = networks(2, 2, 6, 1)
    with pytest.raises(ValueError, match="`patterns` must hold -1 and \\+1 only, but holds 0"):
        hebbian_couplings(xi * 0)
    with pytest.raises(ValueError, match="`cues` must have shape \\(2, cues, 6\\)"):
        recall(xi, cues[:, :, :5], beta=1.0)
    with pytest.raises(ValueError, match="`cues` must hold -1 and \\+1 only"):
        recall_by_dynamics(xi, cues * 0, beta=1.0)
    with pytest.raises(ValueError, match="`num_sweeps` must be positive, but is 0"):
        recall_by_dynamics(xi, cues, beta=1.0, num_sweeps=0)
