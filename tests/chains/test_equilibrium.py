"""The test of equilibrium: its calibration, what fails it, and when sweeps are enough."""

import math

import pytest
import torch

from qattn import IsingBatch, SpinSamples, exact
from qattn.chains import Chains, Doubling, EquilibriumWarning
from qattn.chains.equilibrium import warn_of
from qattn.chains.settle import opposite_starts
from qattn.quality import Equilibrium, equilibrium

READS = 400


def problems(seed=0, *, groups=2, queries=40, n=8, coupling_sd=0.3):
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(groups, queries, n, generator=generator)
    J = coupling_sd * torch.randn(groups, n, n, generator=generator).triu(1)
    return IsingBatch(h, J + J.mT)


def test_exact_reads_pass_as_often_as_chance_allows():
    """Over 200 batches: z² has mean 1 and its error is the stated one; so has the temperature."""
    z, coldness, small = [], [], 0
    for seed in range(200):
        batch = problems(seed, queries=10)
        test = equilibrium(exact.sample(batch, READS, seed), batch)
        z.append((test.mean - 1) / test.mean_error)
        coldness.append(test.temperature)
        small += int((test.p_values < 0.1).sum())
    for values in (torch.tensor(z), torch.tensor(coldness)):
        assert abs(float(values.mean())) < 5 / math.sqrt(200)
        assert abs(float(values.std()) - 1) < 5 / math.sqrt(2 * 199)
    # Satterthwaite's χ² is an approximation: 0.1 within 15%, besides the noise of 4,000 p-values.
    assert abs(small / 4000 - 0.1) < 0.015 + 5 * math.sqrt(0.1 * 0.9 / 4000)


def colder(batch, factor):
    return IsingBatch(batch.h, batch.J, batch.lengths, factor)


@pytest.mark.parametrize(("factor", "sign"), [(1.1, 1), (0.9, -1)])
def test_a_wrong_temperature_fails(factor, sign):
    batch = problems()
    test = equilibrium(exact.sample(colder(batch, factor), READS, 1), batch)
    assert abs(test.mean - 1) < 5 * test.mean_error
    assert not test.passed
    assert sign * test.temperature > 5
    assert ("colder" if sign > 0 else "hotter") in str(test)


def chains_after(batch, num_sweeps, *, frozen=()):
    """Reads of chains from opposite starts; frozen spins keep theirs."""
    chains = Chains(batch, opposite_starts(batch, READS))
    generator = torch.Generator().manual_seed(2)
    for _ in range(num_sweeps):
        before = chains._columns[:, list(frozen)].clone()
        chains.sweep(1, generator)
        chains._columns[:, list(frozen)] = before
    return SpinSamples(chains.spins)


def test_chains_in_equilibrium_pass_and_frozen_ones_fail():
    batch = problems()
    assert equilibrium(chains_after(batch, 60), batch).passed
    start = equilibrium(chains_after(batch, 0), batch)
    assert not start.groups_agree
    assert start.mean > 100
    assert len(start.suspects) == 80


def test_a_spin_that_is_never_updated_fails():
    batch = problems()
    test = equilibrium(chains_after(batch, 60, frozen=[3]), batch)
    assert not test.groups_agree


def test_z2_is_the_squared_error_in_units_of_the_noise():
    """Reads of which a share keeps its start: (2 share)² / noise over 1, on average."""
    batch = problems(queries=100)
    share = 0.1
    reads = exact.sample(batch, READS, 3).spins.clone()
    kept = int(share * READS)
    reads[:, :, :kept] = opposite_starts(batch, kept)
    test = equilibrium(SpinSamples(reads), batch)
    m = reads.double().mean(2)
    expected = 1 + (2 * share) ** 2 / ((1 - m**2).mean() * 4 / READS)
    # The rest of the reads scatters as it did; the shift is the same in every spin.
    assert abs(test.mean / float(expected) - 1) < 0.15


def test_absent_spins_and_frozen_queries():
    h = torch.full((1, 3, 4), 30.0)
    batch = IsingBatch(h, torch.zeros(1, 4, 4), torch.tensor([4, 0, 2]))
    test = equilibrium(exact.sample(batch, READS, 0), batch)
    assert test.z2.tolist() == [[0.0, 0.0, 0.0]]
    assert test.passed
    assert test.mean == 0.0


def test_halves_show_a_drift():
    batch = problems()
    warm, cold = (exact.sample(colder(batch, f), READS // 2, 5).spins for f in (0.7, 1.4))
    drifting = SpinSamples(torch.cat([warm, cold], 2))
    halves = torch.arange(READS) < READS // 2
    assert not equilibrium(drifting, batch, halves).groups_agree
    blind = equilibrium(drifting, batch)  # every second read: no drift is seen
    assert abs(blind.mean - 1) < 5 * blind.mean_error


@pytest.mark.parametrize(
    ("samples", "first", "message"),
    [
        (lambda s: SpinSamples(s, torch.ones(s.shape[:3])), None, "must not have weights"),
        (lambda s: SpinSamples(s[:, 1:]), None, "must be reads of"),
        (lambda s: SpinSamples(s), torch.zeros(READS, dtype=torch.bool), "groups of 0 and 400"),
        (lambda s: SpinSamples(s), torch.ones(3, dtype=torch.bool), "must divide 400 reads"),
    ],
)
def test_bad_reads_are_refused(samples, first, message):
    batch = problems()
    reads = exact.sample(batch, READS, 0).spins
    with pytest.raises(ValueError, match=message):
        equilibrium(samples(reads), batch, first)


def test_the_warning_names_five_problems_and_counts_the_others():
    with pytest.warns(EquilibriumWarning, match=r"\(0, 0\), .*\(0, 4\) and 2 more, after all"):
        warn_of([(0, q) for q in range(7)], "after all")


# When sweeps are enough


def run(rule, means, progress=1.0):
    """Sweeps between tests for a sequence of mean z², agreeing from 1.1 down."""
    done = []
    for mean in means:
        if not rule.next_sweeps:
            break
        done.append(rule.next_sweeps)
        rule.record(outcome(mean), progress=progress)
    return done


def outcome(mean):
    """A test of very many degrees of freedom, which agrees from 1.1 down."""
    z2 = torch.tensor([[mean]], dtype=torch.float64)
    return Equilibrium(z2, torch.full_like(z2, 1e4), torch.ones_like(z2), 0.0)


def test_sweeps_double_until_chains_agree_and_then_once():
    rule = Doubling(1000)
    assert run(rule, [30, 5, 1.0, 1.0]) == [5, 5, 10, 20]
    assert rule.passed
    assert rule.sweeps == 40


def test_chains_that_disagree_again_go_on():
    rule = Doubling(1000)
    assert run(rule, [1.0, 2.0, 1.0, 1.0]) == [5, 5, 10, 20]
    assert rule.passed


def test_the_end_comes_at_the_cap_or_where_the_decay_is_too_slow():
    rule = Doubling(30)
    assert run(rule, [9, 9, 9, 9, 9]) == [5, 5, 10, 10]
    assert not rule.passed
    slow = Doubling(100_000)
    assert sum(run(slow, [300 - i for i in range(12)])) == Doubling.JUDGED
    quick = Doubling(1000)
    assert sum(run(quick, [300 / 4**i for i in range(12)])) == quick.sweeps == 320
    assert quick.passed


def test_what_else_is_missing_is_waited_for():
    rule = Doubling(1000)
    assert run(rule, [1.0, 1.0], progress=0.8) == [5, 5]
    assert not rule.passed
    assert rule.next_sweeps == 3  # a quarter of ten
    rule.record(outcome(1.0))
    assert rule.passed
    assert rule.next_sweeps == 0


def test_what_else_is_needed_may_be_all_that_confirms():
    rule = Doubling(1000, first=20, confirm=False)
    assert run(rule, [1.0, 1.0], progress=0.2) == [20, 20]
    rule.record(outcome(3.0), progress=1.5)  # enough, but not in agreement
    assert rule.next_sweeps == 80
    rule.record(outcome(1.0), progress=3.0)
    assert rule.passed
    assert rule.sweeps == 160
