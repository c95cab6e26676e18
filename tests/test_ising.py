"""IsingBatch and SpinSamples: conventions, dimod, ghost spins, bad input."""

import math

import dimod
import numpy as np
import pytest
import torch
from _support.brute_force import random_couplings

from qattn import IsingBatch, SpinSamples, exact
from qattn.ising.union_bqm import split_union

BETA = 0.7


@pytest.fixture
def batch():
    torch.manual_seed(0)
    J = random_couplings(2, 5, 0.8, dtype=torch.float64)
    h = torch.randn(2, 3, 5, dtype=torch.float64)
    return IsingBatch(h, J, torch.tensor([5, 2, 0]), BETA)


def enumerated_mean(bqm, beta):
    """⟨s⟩ of a BQM under exp(-β·energy), with dimod's own exact solver."""
    sampleset = dimod.ExactSolver().sample(bqm)
    energies = sampleset.record.energy
    weights = np.exp(-beta * (energies - energies.min()))
    mean = weights @ sampleset.record.sample / weights.sum()
    return dict(zip(sampleset.variables, mean, strict=True))


@pytest.mark.parametrize("sign", [1, -1])
def test_bqms_are_exact(batch, sign):
    means = exact.mean_spins(batch)
    bqms = batch.to_bqms()
    assert len(bqms) == 6
    errors = []
    for number, bqm in enumerate(bqms):
        g, q = divmod(number, 3)
        assert bqm.vartype is dimod.SPIN
        if bqm.num_variables == 0:
            continue
        mean = enumerated_mean(bqm, sign * BETA)
        errors += [abs(mean[j] - means[g, q, j].item()) for j in range(bqm.num_variables)]
    # The negative control, β with the wrong sign, is far off.
    assert (max(errors) < 1e-10) if sign == 1 else (max(errors) > 0.1)


def test_union_bqm_equals_separate_bqms(batch):
    union, parts = batch.to_union_bqm(), batch.to_bqms()
    assert list(union.variables) == list(range(sum(b.num_variables for b in parts)))
    rng = np.random.default_rng(0)
    spins = rng.choice([-1, 1], size=union.num_variables)
    start, energy = 0, 0.0
    for part in parts:
        values = spins[start : start + part.num_variables]
        energy += part.energy((values, list(part.variables))) if part.num_variables else 0.0
        start += part.num_variables
    assert union.energy((spins, list(union.variables))) == pytest.approx(energy)


def test_energies_are_dimods(batch):
    spins = torch.randint(0, 2, (2, 3, 4, 5), dtype=torch.int8) * 2 - 1
    energies = batch.energies(spins)
    for number, bqm in enumerate(batch.to_bqms()):
        g, q = divmod(number, 3)
        n = bqm.num_variables
        for r in range(4):
            expected = bqm.energy((spins[g, q, r, :n].numpy(), list(range(n)))) if n else 0.0
            assert energies[g, q, r].item() == pytest.approx(expected)


def test_ghost_spin_keeps_the_distribution(batch):
    ghost = batch.with_ghost_spin()
    assert ghost.h.shape == (6, 1, 6)
    assert (ghost.h == 0).all()
    # ⟨s_0 s_j⟩ of the ghost problem is ⟨s_j⟩ of the original.
    pairs = exact.pair_correlations(ghost)[:, 0, 0, 1:].view(2, 3, 5)
    torch.testing.assert_close(pairs, exact.mean_spins(batch))
    torch.testing.assert_close(exact.mean_spins(ghost), torch.zeros(6, 1, 6, dtype=torch.float64))


def test_ghost_spin_reads_fold_back(batch):
    reads = exact.sample(batch.with_ghost_spin(), 20_000, seed=1)
    folded = reads.without_ghost_spin(batch.num_groups)
    assert folded.spins.shape == (2, 3, 20_000, 5)
    expected = exact.mean_spins(batch)
    # Standard error sqrt((1 - m²)/R) per spin; 5 sigma, 30 spins.
    bound = 5 * ((1 - expected**2) / 20_000).sqrt() + 1e-12
    error = (folded.mean_spins(torch.float64) - expected).abs()
    assert (error <= bound).all()
    unfolded = reads.spins[..., 1:].double().mean(2).view(2, 3, 5)
    assert not ((unfolded - expected).abs() <= bound).all()


def test_learnable_beta_per_group():
    h = torch.ones(2, 1, 1, dtype=torch.float64)
    beta = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)
    batch = IsingBatch(h, torch.zeros(2, 1, 1, dtype=torch.float64), beta=beta)
    mean = exact.mean_spins(batch)
    torch.testing.assert_close(mean.flatten(), beta.tanh())
    mean.sum().backward()
    torch.testing.assert_close(beta.grad, 1 - beta.detach().tanh() ** 2)


def test_rounding_asymmetry_is_averaged():
    J = torch.tensor([[[0.0, 1.0], [1.0 + 5e-7, 0.0]]])
    batch = IsingBatch(torch.zeros(1, 1, 2), J)
    assert torch.equal(batch.J, batch.J.mT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"h": torch.zeros(2, 3)}, r"`h` must have shape \(groups, queries, spins\)"),
        ({"J": torch.zeros(2, 4, 4)}, r"`J` must have shape .*\(2, 5, 5\).* has shape \(2, 4, 4\)"),
        ({"J": torch.zeros(2, 5, 5).double()}, "both be float32 or both float64"),
        ({"h": torch.full((2, 3, 5), torch.nan)}, r"`h` must be finite, but is nan at index"),
        ({"J": torch.ones(2, 5, 5).triu(1)}, r"`J` must be symmetric, but max .* = 1"),
        ({"J": torch.eye(5).expand(2, 5, 5)}, "zero diagonal"),
        ({"lengths": torch.tensor([1, 2])}, r"`lengths` must have shape \(3,\)"),
        ({"lengths": torch.tensor([1, 2, 6])}, "between 0 and 5"),
        ({"lengths": torch.tensor([1.0, 2.0, 3.0])}, "integers"),
        ({"beta": -0.5}, "`beta` must be finite and not negative, but is -0.5"),
        ({"beta": math.inf}, "`beta` must be finite and not negative, but is inf"),
        ({"beta": torch.nan}, "`beta` must be finite and not negative, but is nan"),
        ({"beta": torch.ones(3)}, r"`beta` must be a number or have shape \(\) or \(2,\)"),
    ],
)
@pytest.mark.usefixtures("as_users_call")
def test_bad_input(change, message):
    arguments = {"h": torch.zeros(2, 3, 5), "J": torch.zeros(2, 5, 5)} | change
    with pytest.raises((ValueError, TypeError), match=message):
        IsingBatch(**arguments)


def test_weights_of_reads_are_honoured():
    spins = torch.tensor([[[[1, 1], [-1, 1]]]], dtype=torch.int8)
    samples = SpinSamples(spins, torch.tensor([[[3.0, 1.0]]]))
    assert samples.mean_spins().flatten().tolist() == [0.5, 1.0]
    assert samples.pair_correlations()[0, 0].tolist() == [[1.0, 0.5], [0.5, 1.0]]
    assert SpinSamples(spins).mean_spins().flatten().tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(1, 2, 3, dtype=torch.int8),), "`spins` must have shape"),
        ((torch.zeros(1, 1, 2, 3),), "`spins` must be int8"),
        ((torch.zeros(1, 1, 2, 3, dtype=torch.int8), torch.ones(1, 1, 3)), "`weights` must have"),
    ],
)
@pytest.mark.usefixtures("as_users_call")
def test_bad_samples(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        SpinSamples(*arguments)


@pytest.mark.usefixtures("as_users_call")
def test_bad_spins_and_ghosts(batch):
    with pytest.raises(ValueError, match=r"`spins` must have shape \(2, 3, reads, 5\)"):
        batch.energies(torch.ones(2, 3, 5))
    with pytest.raises(ValueError, match="-1 or \\+1 at active spins, but holds 2"):
        exact.log_prob(batch, torch.full((2, 3, 1, 5), 2))
    with pytest.raises(ValueError, match="`num_groups` must divide"):
        exact.sample(batch.with_ghost_spin(), 3, seed=0).without_ghost_spin(4)
    with pytest.raises(ValueError, match="`num_reads` must be positive, but is 0"):
        exact.sample(batch, 0)


@pytest.mark.parametrize(("asymmetry", "is_refused"), [(1e-4, True), (1e-7, False)])
def test_asymmetry_beyond_rounding_is_refused(asymmetry, is_refused):
    torch.manual_seed(0)
    J = random_couplings(2, 5, 0.8, dtype=torch.float64)
    J[1, 0, 3] += asymmetry * J.abs().max()
    h = torch.zeros(2, 1, 5, dtype=torch.float64)
    if is_refused:
        with pytest.raises(ValueError, match="`J` must be symmetric"):
            IsingBatch(h, J)
    else:
        assert torch.equal(IsingBatch(h, J).J, IsingBatch(h, J).J.mT)


def test_ghost_spin_keeps_the_beta_of_each_group():
    torch.manual_seed(0)
    h = torch.randn(2, 3, 4, dtype=torch.float64)
    J = random_couplings(2, 4, 0.8, dtype=torch.float64)
    batch = IsingBatch(h, J, beta=torch.tensor([0.4, 1.7], dtype=torch.float64))
    pairs = exact.pair_correlations(batch.with_ghost_spin())[:, 0, 0, 1:].view(2, 3, 4)
    torch.testing.assert_close(pairs, exact.mean_spins(batch))


def test_union_reads_are_split_by_name_and_not_by_column(batch):
    # A sampler may return the variables in any order.
    union = batch.to_union_bqm()
    reads = np.random.default_rng(0).choice([-1, 1], size=(4, union.num_variables))
    labels = list(union.variables)
    lengths = batch.num_active.ravel()
    results = []
    for order in (np.arange(len(labels)), np.arange(len(labels))[::-1]):
        named = (reads[:, order], [labels[i] for i in order])
        sampleset = dimod.SampleSet.from_samples(named, dimod.SPIN, energy=0.0, sort_labels=False)
        assert list(sampleset.variables) == named[1]
        results.append(split_union(sampleset, lengths, batch.num_spins)[0])
    assert (results[0] == results[1]).all()
    assert (results[0][0] == reads[:, :5]).all()


def test_beta_of_zero_makes_every_state_as_likely(batch):
    free = IsingBatch(batch.h, batch.J, batch.lengths, 0.0)
    assert torch.equal(exact.mean_spins(free), torch.zeros_like(batch.h))
    expected = torch.tensor([5, 2, 0]) * torch.log(torch.tensor(2.0, dtype=torch.float64))
    torch.testing.assert_close(exact.log_partition(free), expected.expand(2, 3))


def test_representations_fit_a_line(batch):
    one = IsingBatch(torch.zeros(1, 5, 12), torch.zeros(1, 12, 12))
    assert repr(one) == "IsingBatch(1 group, 5 queries, 12 spins, beta=1)"
    assert repr(batch) == "IsingBatch(2 groups, 3 queries, 0 to 5 spins, beta=0.7, float64)"
    learned = IsingBatch(batch.h, batch.J, beta=torch.tensor([0.5, 2.0], requires_grad=True))
    assert repr(learned) == "IsingBatch(2 groups, 3 queries, 5 spins, beta=[0.5, 2], float64)"
    spins = torch.ones(2, 1, 10, 4, dtype=torch.int8)
    assert repr(SpinSamples(spins)) == "SpinSamples(2 groups, 1 query, 10 reads, 4 spins)"
    weighted = SpinSamples(spins, torch.ones(2, 1, 10), {"timing": 1.0})
    assert repr(weighted) == (
        "SpinSamples(2 groups, 1 query, 10 weighted reads, 4 spins, info: timing)"
    )


def test_representations_need_no_values():
    with torch.device("meta"):
        batch = IsingBatch(torch.zeros(1, 5, 12), torch.zeros(1, 12, 12), beta=torch.ones(()))
    assert repr(batch) == "IsingBatch(1 group, 5 queries, 12 spins, beta=a tensor, meta)"
