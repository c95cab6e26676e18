"""Fitted inverse temperatures, and whether their intervals hold what they promise."""

import math

import pytest
import torch
from _support.annealing import problems
from hypothesis import given, settings
from hypothesis import strategies as st

from qattn import exact
from qattn.ising.batch import IsingBatch
from qattn.ising.states import states
from qattn.problems import synthetic
from qattn.pseudolikelihood import fit_beta, fit_betas, fit_betas_of_each

BATCH = problems(5, groups=4, queries=3)


def separately(batch):
    """h and J of every problem."""
    return batch.h.flatten(0, 1), batch.J.repeat_interleave(batch.num_queries, 0)


def boltzmann(batch, beta_h, beta_J):
    """All states, and their exact probabilities at other inverse temperatures."""
    spins = states(batch.num_spins, torch.float64, batch.h.device)
    other = IsingBatch(batch.h * beta_h, batch.J * beta_J)
    log_p = exact.log_prob(other, spins.expand(*batch.h.shape[:2], -1, -1))
    return spins, log_p.flatten(0, 1).exp()


def reads_of(batch, num_reads, seed, *, beta_h=1.0, beta_J=1.0):
    """Independent reads at other inverse temperatures, one row each."""
    other = IsingBatch(batch.h * beta_h, batch.J * beta_J, batch.lengths)
    spins = exact.sample(other, num_reads, seed=seed).spins.flatten(0, 1).double()
    return spins, torch.ones(spins.shape[:2], dtype=torch.float64)


def fraction_covered(fits, betas=(1.0, 1.0)):
    """How many of the 95% intervals of β_h and of β_J hold the true value."""
    covered = [0, 0]
    for fit in fits:
        for i, (low, high) in enumerate(fit.interval(0.95)):
            covered[i] += low <= betas[i] <= high
    return [count / len(fits) for count in covered]


@pytest.mark.parametrize("betas", [(1.0, 1.0), (0.7, 1.4), (2.0, 0.3)])
def test_exact_probabilities_give_back_their_betas(betas):
    fit = fit_betas(*separately(BATCH), *boltzmann(BATCH, *betas))
    assert (fit.beta_h, fit.beta_J) == pytest.approx(betas, abs=1e-8)


def test_intervals_hold_the_truth_as_often_as_they_say():
    # 100 repetitions: 95 of them are expected to hold it, with a standard error of 2.2.
    fits = [fit_betas(*separately(BATCH), *reads_of(BATCH, 100, seed)) for seed in range(100)]
    assert min(fraction_covered(fits)) >= 0.9
    # Negative controls: fields 10% colder; and every read counted four times.
    colder = [
        fit_betas(*separately(BATCH), *reads_of(BATCH, 100, seed, beta_h=1.1))
        for seed in range(100)
    ]
    of_h, of_J = fraction_covered(colder)
    assert of_h < 0.5
    assert of_J >= 0.85
    assert min(fraction_covered(colder, (1.1, 1.0))) >= 0.9
    again = []
    for seed in range(100):
        spins, weights = reads_of(BATCH, 100, seed)
        again.append(fit_betas(*separately(BATCH), spins, 4 * weights))
    assert max(fraction_covered(again)) < 0.9


def test_clusters_of_problems_hold_where_each_problem_has_an_error_of_its_own():
    # A device that realises each problem's h and J 15% off, differently each time.
    batch = problems(5, groups=30, queries=1)
    h, J = separately(batch)
    by_problem, by_read = [], []
    for seed in range(100):
        generator = torch.Generator().manual_seed(1000 + seed)
        off = 1 + 0.15 * torch.randn(30, 2, 1, 1, generator=generator, dtype=torch.float64)
        noisy = IsingBatch(batch.h * off[:, 0], batch.J * off[:, 1])
        data = reads_of(noisy, 200, seed)
        by_problem.append(fit_betas(h, J, *data, clusters="problems"))
        by_read.append(fit_betas(h, J, *data))
    assert by_problem[0].num_clusters == 30
    # The fit of problems of many temperatures lies 1 to 2% below the mean of the temperatures, half
    # a standard error here.
    assert min(fraction_covered(by_problem)) >= 0.85
    assert max(fraction_covered(by_read)) < 0.75


def test_one_beta_and_whether_it_will_do():
    h, J = separately(BATCH)
    fits = [fit_beta(h, J, *reads_of(BATCH, 100, seed)) for seed in range(100)]
    inside = sum(fit.interval()[0] <= 1 <= fit.interval()[1] for fit in fits)
    assert inside >= 90
    # Under the null hypothesis p is uniform: 5 below 0.05 expected, sd 2.2.
    assert sum(fit.p_value < 0.05 for fit in fits) <= 13
    apart = [fit_beta(h, J, *reads_of(BATCH, 100, seed, beta_J=1.5)) for seed in range(20)]
    assert all(fit.p_value < 0.05 for fit in apart)
    mean = sum(fit.beta for fit in apart) / 20
    assert 1.0 < mean < 1.5


def test_weights_are_counts():
    spins, weights = reads_of(BATCH, 50, 1)
    counts = torch.randint(0, 4, weights.shape, generator=torch.Generator().manual_seed(0))
    counts = counts[:1].expand_as(counts)  # so that rows repeat alike in every problem
    repeated = spins.repeat_interleave(counts[0], 1)
    fit = fit_betas(*separately(BATCH), spins, counts.double())
    expected = fit_betas(*separately(BATCH), repeated, torch.ones(repeated.shape[:2]).double())
    assert fit.beta_h == pytest.approx(expected.beta_h)
    assert fit.num_clusters == expected.num_clusters
    assert torch.allclose(fit.covariance, expected.covariance)


def test_each_problem_by_itself_is_a_fit_of_that_problem():
    lengths = torch.tensor([5, 0, 3])
    batch = IsingBatch(BATCH.h, BATCH.J, lengths)
    h, J = separately(batch)
    spins, weights = reads_of(batch, 300, 2)
    active = batch.active.expand(batch.h.shape).flatten(0, 1)
    beta, covariance = fit_betas_of_each(h, J, spins, weights, active)
    for p in range(len(h)):
        if p % 3 == 1:
            assert bool(beta[p].isnan().all())
            continue
        one = slice(p, p + 1)
        fit = fit_betas(h[one], J[one], spins[one], weights[one], active[one])
        assert beta[p].tolist() == pytest.approx([fit.beta_h, fit.beta_J])
        assert torch.allclose(covariance[p], fit.covariance)
    together = fit_betas(h, J, spins, weights, active)
    present = torch.arange(len(h)) % 3 != 1
    without = fit_betas(*(x[present] for x in (h, J, spins, weights, active)))
    assert together.beta_J == pytest.approx(without.beta_J)


@pytest.mark.parametrize("missing", ["fields", "couplings"])
def test_what_the_problems_lack_is_nan_and_the_other_is_fitted(missing):
    keep_h, keep_J = (0.0, 1.0) if missing == "fields" else (1.0, 0.0)
    batch = IsingBatch(BATCH.h * keep_h, BATCH.J * keep_J)
    data = reads_of(batch, 500, 3)
    fit = fit_betas(*separately(batch), *data)
    fixed, absent = (fit.beta_J, fit.beta_h) if missing == "fields" else (fit.beta_h, fit.beta_J)
    error, no_error = sorted(fit.standard_errors, key=math.isnan)
    assert abs(fixed - 1) < 5 * error
    assert math.isnan(absent)
    assert math.isnan(no_error)
    one = fit_beta(*separately(batch), *data)
    assert one.beta == pytest.approx(fixed)
    assert one.standard_error == pytest.approx(error)
    assert math.isnan(one.p_value)


def test_data_that_fix_nothing_are_named():
    h, J = separately(BATCH)
    with pytest.raises(ValueError, match="must have fields or couplings"):
        fit_betas(h * 0, J * 0, *reads_of(BATCH, 10, 0))
    ground = reads_of(BATCH, 20, 0, beta_h=1000.0, beta_J=1000.0)
    with pytest.raises(ValueError, match="must differ from the most likely states"):
        fit_betas(h, J, *ground)
    with pytest.raises(ValueError, match="must differ from the most likely states"):
        fit_beta(h, J, *ground)
    with pytest.raises(ValueError, match="`clusters` must be 'reads' or 'problems'"):
        fit_betas(h, J, *ground, clusters="spins")
    with pytest.raises(ValueError, match="at least 2 problems"):
        fit_betas(h[:1], J[:1], *(x[:1] for x in ground), clusters="problems")
    fit = fit_betas(h, J, *reads_of(BATCH, 50, 0))
    with pytest.raises(ValueError, match="`level` must be between 0 and 1"):
        fit.interval(95.0)


@settings(max_examples=20)
@given(flips=st.lists(st.booleans(), min_size=5, max_size=5), unit=st.floats(1e-3, 1e3))
def test_gauge_flips_leave_the_fit_and_units_scale_it(flips, unit):
    spins, weights = reads_of(BATCH, 60, 4)
    h, J = separately(BATCH)
    gauge = 1 - 2 * torch.tensor(flips, dtype=torch.float64)
    expected = fit_betas(h, J, spins, weights)
    fit = fit_betas(h * gauge / unit, J * gauge.outer(gauge) / unit, spins * gauge, weights)
    assert fit.beta_h / unit == pytest.approx(expected.beta_h, rel=1e-6)
    assert fit.beta_J / unit == pytest.approx(expected.beta_J, rel=1e-6)
    errors = [error / unit for error in fit.standard_errors]
    assert errors == pytest.approx(expected.standard_errors, rel=1e-6)


@pytest.mark.parametrize("num_reads", [1, 50])
def test_reads_that_are_all_equal_have_no_known_error(num_reads):
    """Their slopes do not differ: an error of 0 would make any β certain."""
    h, J = (x[:1] for x in separately(BATCH))
    spins = torch.tensor([1.0, -1.0, 1.0, -1.0, -1.0], dtype=torch.float64).expand(1, num_reads, 5)
    weights = torch.ones(1, num_reads, dtype=torch.float64)
    fit, scalar = fit_betas(h, J, spins, weights), fit_beta(h, J, spins, weights)
    assert all(map(math.isfinite, fit.values))
    assert fit.covariance.isnan().all()
    assert all(map(math.isnan, [*fit.interval()[0], scalar.standard_error, *scalar.interval()]))
    assert math.isnan(scalar.p_value)
    _, covariance = fit_betas_of_each(h, J, spins, weights)
    assert covariance.isnan().all()
    # One read that differs gives an error again, whatever the weights.
    other = torch.cat([spins, -spins[:, :1]], 1)
    counted = torch.full((1, num_reads + 1), 1e6, dtype=torch.float64)
    assert fit_betas(h, J, other, counted).covariance.isfinite().all()


def test_covariance_allows_for_few_clusters():
    """The factor m/(m - 1): every problem twice is not quite twice the information."""
    m = 5
    batch = synthetic(m, 4, seed=3)
    h, J = batch.h.flatten(0, 1), batch.J.expand(m, -1, -1)
    spins = exact.sample(batch, 30, seed=1).spins.flatten(0, 1).double()
    weights = torch.ones(m, 30, dtype=torch.float64)
    once = fit_betas(h, J, spins, weights, clusters="problems")
    doubled = [torch.cat([x, x]) for x in (h, J, spins, weights)]
    twice = fit_betas(*doubled, clusters="problems")
    ratio = 0.5 * (2 * m / (2 * m - 1)) / (m / (m - 1))
    torch.testing.assert_close(twice.covariance, ratio * once.covariance)
