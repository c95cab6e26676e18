"""Figures of merit against distributions whose answer is known in closed form."""

import functools
import math

import pytest
import torch
from _support.annealing import problems
from hypothesis import given, settings
from hypothesis import strategies as st

from qattn import exact, quality
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples
from qattn.pseudolikelihood import fit_betas
from qattn.quality.metrics import regression
from qattn.quality.scores import score_of
from qattn.quality.split import split_by_problem
from qattn.quality.states import entropy

READS = 1000


def pairs(couplings):
    """Two coupled spins without fields, a group each."""
    J = torch.zeros(len(couplings), 2, 2, dtype=torch.float64)
    J[:, 0, 1] = J[:, 1, 0] = torch.tensor(couplings, dtype=torch.float64)
    return IsingBatch(J.new_zeros(len(couplings), 1, 2), J)


def hotter(batch, factor):
    return IsingBatch(batch.h, batch.J, batch.lengths, batch.beta * factor)


@functools.cache
def spread_problems():
    """40 problems of 6 spins with their reference and the floor of 1,000 reads, 30 repeats."""
    batch = problems(6, groups=8, queries=5, seed=1)
    reference = quality.reference_of(batch)
    return batch, reference, quality.noise_floor(reference, READS, repeats=30)


def judged(samples, num_reads=READS):
    batch, reference, floor = spread_problems()
    return quality.judge(samples, batch, reference=reference, floor=floor)


def test_floor_of_moments_is_the_analytic_one():
    # rms over spins and problems of N independent reads: √(mean (1 - m²)/N), with a relative
    # standard error of about 1/√(2 · spins · problems · repeats) = 0.7%.
    _, reference, floor = spread_problems()
    for name, moments in (
        ("mean_rms", reference.mean),
        ("pair_rms", reference.pairs[:, *torch.tril_indices(6, 6, -1)]),
    ):
        expected = float(((1 - moments**2).mean() / READS).sqrt())
        judgement = float(floor.values[name].square().mean().sqrt())
        assert judgement == pytest.approx(expected, rel=0.05)
        assert judgement != pytest.approx(expected * 1.1, rel=0.05)


def test_exact_reads_are_at_the_floor_and_a_wrong_beta_is_not():
    batch, _, _ = spread_problems()
    for seed in (1, 2):
        for name, score in judged(exact.sample(batch, READS, seed=seed)).scores.items():
            # The spread is itself estimated from 30 repeats: 5 of its errors, 12 figures.
            assert abs(score.ratio - 1) < 6 * score.ratio_error, name
    wrong = judged(exact.sample(hotter(batch, 1.2), READS, seed=1)).scores
    for name in set(wrong) - {"autocorrelation", "mean_worst", "pair_worst"}:
        assert wrong[name].ratio - 1 > 6 * wrong[name].ratio_error, name


@pytest.mark.parametrize("factor", [1.1, 1.2, 0.8])
def test_a_wrong_beta_shows_as_theory_says(factor):
    # Means over 40 problems and 1,000 reads; the tolerances are 6 of the floor's spreads.
    batch, reference, _ = spread_problems()
    wrong = hotter(batch, factor)
    judgement = judged(exact.sample(wrong, READS, seed=3))
    other = quality.reference_of(wrong)

    bias = float((other.mean - reference.mean).square().mean().sqrt())
    noise = float(((1 - other.mean**2).mean() / READS).sqrt())
    score = judgement.scores["mean_rms"]
    expected = math.sqrt(bias**2 + noise**2) / score.floor
    assert score.ratio == pytest.approx(expected, abs=6 * score.ratio_error)

    # KL(p_β' || p_β) = Σ p' (log p' - log p), to second order (β' - β)² Var(E)/2.
    energy = torch.tensor([e.mean / factor for e in other.energies], dtype=torch.float64)
    divergence = float(((1 - factor) * energy + reference.log_Z - other.log_Z).mean())
    score = judgement.scores["kl"]
    assert score.value == pytest.approx(divergence, abs=6 * (score.floor_sd + score.floor))
    variance = sum(e.sd**2 for e in reference.energies) / 40
    assert divergence == pytest.approx((factor - 1) ** 2 * variance / 2, rel=0.35)

    # Cooling shifts the energy's distribution without crossing: W₁ is the shift of its mean.
    mean = torch.tensor([e.mean for e in reference.energies], dtype=torch.float64)
    score = judgement.scores["energy_distance"]
    assert score.value == pytest.approx(float((energy - mean).abs().mean()), abs=2 * score.floor)

    (low_h, high_h), (low_J, high_J) = judgement.betas.interval(0.999999)
    assert low_h < factor < high_h
    assert low_J < factor < high_J
    assert not low_h < 1 < high_h
    beta, error, p_value = judgement.one_beta
    assert abs(beta - factor) < 5 * error
    assert p_value > 1e-6


def test_independent_spins_in_closed_form():
    h = torch.tensor([[[0.3, 1.0, 0.0, 2.0]]], dtype=torch.float64)
    batch = IsingBatch(h, h.new_zeros(1, 4, 4))
    reference = quality.reference_of(batch)
    m = torch.tanh(h[0, 0])
    assert torch.allclose(reference.mean[0], m)
    g = reference.direction[0]
    assert torch.allclose(reference.gradient_h[0], g * (1 - m**2))
    # All reads up: every figure by hand.
    up = SpinSamples(torch.ones(1, 1, 10, 4, dtype=torch.int8))
    values = quality.measure(up, reference, estimator="moment")
    assert float(values["mean_rms"]) == pytest.approx(float((1 - m).square().mean().sqrt()))
    assert float(values["mean_worst"]) == pytest.approx(1.0)
    probability = float(((1 + m) / 2).prod())
    assert float(values["total_variation"]) == pytest.approx(1 - probability)
    assert float(values["kl"]) == pytest.approx(-math.log(probability))
    # All reads in the ground state, of energy -Σh: the distance is the mean distance from there.
    assert float(values["energy_distance"]) == pytest.approx(float(h.sum() - (h[0, 0] * m).sum()))
    assert float(values["gradient_h"]) == pytest.approx(1.0)  # reads without variance: no gradient
    assert bool(values["autocorrelation"].isnan().all())
    assert bool(values["beta_h"].isnan().all())
    assert bool(values["beta_J"].isnan().all())


def test_two_coupled_spins_in_closed_form():
    J = torch.tensor([0.5, -1.2], dtype=torch.float64)
    batch = pairs(J.tolist())
    reference = quality.reference_of(batch)
    assert torch.allclose(reference.mean, torch.zeros(2, 2, dtype=torch.float64), atol=1e-15)
    assert torch.allclose(reference.pairs[:, 0, 1], torch.tanh(J))
    assert torch.allclose(reference.log_Z, (4 * torch.cosh(J)).log())
    equal = (1 + torch.tanh(J)) / 2  # probability of s_0 = s_1
    H = -equal * (equal / 2).log() - (1 - equal) * ((1 - equal) / 2).log()
    assert torch.allclose(reference.effective_states, H.exp())
    # Reads with the share q of equal spins, as weights.
    q = 0.75
    spins = torch.tensor([[1, 1], [-1, -1], [1, -1], [-1, 1]], dtype=torch.int8)
    shares = torch.tensor([q, q, 1 - q, 1 - q], dtype=torch.float64) / 2
    many = 10**6
    samples = SpinSamples(
        spins.expand(2, 1, 4, 2).contiguous(), (many * shares).expand(2, 1, 4).contiguous()
    )
    values = quality.measure(samples, reference)
    assert torch.allclose(values["pair_rms"], (2 * q - 1 - torch.tanh(J)).abs())
    assert torch.allclose(values["total_variation"], (q - equal).abs())
    assert torch.allclose(values["energy_distance"], 2 * J.abs() * (q - equal).abs())
    divergence = q * (q / equal).log() + (1 - q) * ((1 - q) / (1 - equal)).log()
    assert torch.allclose(values["kl"], divergence, atol=1e-5)
    # P(equal) = σ(2βJ), so β = atanh(2q - 1)/J; there are no fields to have a β_h.
    assert torch.allclose(values["beta_J"], (math.atanh(2 * q - 1) / J - 1).abs())
    assert bool(values["beta_h"].isnan().all())
    assert bool(values["autocorrelation"].isnan().all())
    assert "beta_h" not in quality.judge(exact.sample(batch, 100, seed=1), batch).scores


def flip_chain(batch_size, num_reads, flip, seed):
    """A spin that flips with a probability at every read: ρ(t) = (1 - 2·flip)^t."""
    flips = torch.rand(batch_size, num_reads, generator=torch.Generator().manual_seed(seed)) < flip
    return 1.0 - 2.0 * (flips.cumsum(1) % 2)


@pytest.mark.parametrize("flip", [0.5, 0.2, 0.05])
def test_autocorrelation_time_of_a_flipping_spin(flip):
    # 200 chains of 4,000 reads; relative standard error of τ of one: √(2(2W + 1)/N), W = 5τ
    # (Sokal, eq. 3.19). Windowing at 5τ and taking out the mean cost under 2%.
    chain = flip_chain(200, 4000, flip, 1)
    times = quality.integrated_time(chain.unsqueeze(-1))
    tau = (1 - flip) / flip
    error = math.sqrt(2 * (10 * tau + 1) / 4000 / 200)
    assert float(times.mean()) == pytest.approx(tau, rel=5 * error + 0.02)
    assert float(times.mean()) != pytest.approx(1.3 * tau, rel=5 * error + 0.02)
    rho = quality.autocorrelation(chain.unsqueeze(-1)).mean(0)
    assert float(rho[0]) == pytest.approx(1)
    assert float(rho[1]) == pytest.approx(1 - 2 * flip, abs=0.01)


@pytest.mark.parametrize("flip", [0.75, 0.9, 0.95])
def test_autocorrelation_time_of_anticorrelated_reads(flip):
    """Below 1, as the formula says: a window of c τ would stop at the first lag."""
    chain = flip_chain(200, 4000, flip, 2)
    times = quality.integrated_time(chain.unsqueeze(-1))
    tau = (1 - flip) / flip
    # Taking out the mean and the window's tail cost under 5% here; the error is that of the
    # spectrum at frequency zero over W lags, W = 5 (1 + 3a²)/(1 - a²).
    a = 1 - 2 * flip
    error = math.sqrt(2 * (10 * (1 + 3 * a**2) / (1 - a**2) + 1) / 4000 / 200)
    assert float(times.mean()) == pytest.approx(tau, rel=5 * error + 0.05)


def test_autocorrelation_time_of_a_short_chain_cannot_be_estimated():
    short = flip_chain(50, 100, 0.05, 3).unsqueeze(-1)  # τ = 19: five of them
    # All but a chain that happened not to flip before its end.
    assert float(quality.integrated_time(short).isnan().double().mean()) > 0.9
    # What comes out nevertheless is too small, by much.
    assert float(quality.integrated_time(short, least=0.0).nanmean()) < 0.8 * 19
    assert bool(quality.integrated_time(flip_chain(5, 40, 0.5, 4).unsqueeze(-1)).isnan().all())
    assert not bool(quality.integrated_time(flip_chain(5, 400, 0.5, 4).unsqueeze(-1)).isnan().any())
    # A judgement says so, leaves the figure out, and gives no more than a bound.
    batch = IsingBatch(torch.zeros(50, 1, 1).double(), torch.zeros(50, 1, 1).double())
    reference = quality.reference_of(batch)
    floor = quality.noise_floor(reference, 100, repeats=2)
    slow = quality.judge(
        SpinSamples(short.char().unsqueeze(1)), batch, reference=reference, floor=floor
    )
    assert not slow.order_resolved
    assert "autocorrelation" not in slow.scores
    assert 100 / 19 < slow.effective_reads < 50
    assert not slow.to_dict()["order_resolved"]
    independent = quality.judge(reference.draw(100, 5), batch, reference=reference, floor=floor)
    assert independent.order_resolved
    assert "autocorrelation" in independent.scores


def test_spread_of_ratios_is_students():
    """With three repeats, 1.96 standard deviations would hold 80% of exact ratios and not 95%."""
    generator = torch.Generator().manual_seed(0)
    metric = quality.METRICS["mean_rms"]
    inside, normal, trials = 0, 0, 2000
    values = 1 + 0.05 * torch.randn(trials, 4, 1, generator=generator).double()
    for value, *repeats in values:
        score = score_of(value, torch.stack(repeats), metric)
        inside += abs(score.ratio - 1) < score.spread()
        normal += abs(score.ratio - 1) < 1.96 * score.ratio_error
    error = 5 * math.sqrt(0.95 * 0.05 / trials)
    assert inside / trials == pytest.approx(0.95, abs=error)
    assert normal / trials < 0.95 - 2 * error
    assert math.isnan(score.error)  # one problem


def test_errors_of_ratios_hold_the_ratio_of_other_problems():
    """95% intervals from 12 problems, for a bias that differs from problem to problem."""
    generator = torch.Generator().manual_seed(1)
    metric, trials, inside = quality.METRICS["energy_distance"], 400, 0
    for _ in range(trials):
        value = 3 + torch.randn(12, generator=generator).double()
        floor = 1 + 0.1 * torch.randn(10, 12, generator=generator).double()
        score = score_of(value, floor, metric)
        inside += abs(score.ratio - 3) < score.error
    # A bootstrap of 12 and 200 samples is right to a few percent.
    error = 5 * math.sqrt(0.95 * 0.05 / trials)
    assert inside / trials == pytest.approx(0.95, abs=error)
    assert 0.3 < score.error < 1.5  # t(11) sd/√12 = 0.64


def test_effective_reads_of_a_chain_that_repeats_every_read():
    batch, _, _ = spread_problems()
    half = exact.sample(batch, READS // 2, seed=4).spins
    doubled = judged(SpinSamples(half.repeat_interleave(2, 2)))
    # ρ(0) = 1, ρ(1) = 1/2, then 0: τ = 2.
    assert doubled.effective_reads == pytest.approx(READS / 2, rel=0.1)
    assert doubled.equivalent_reads == pytest.approx(READS / 2, rel=0.3)
    assert judged(exact.sample(batch, READS, seed=4)).effective_reads == pytest.approx(
        READS, rel=0.1
    )


def test_anticorrelated_reads_are_not_worth_more_than_their_number():
    batch = pairs([0.5, -1.2])
    up = torch.ones(2, 1, 200, 2, dtype=torch.int8)
    up[..., 1] = torch.tensor([1, -1]).view(2, 1, 1)
    alternating = SpinSamples(up * (1 - 2 * (torch.arange(200) % 2)).view(1, 1, -1, 1).char())
    reference = quality.reference_of(batch)
    floor = quality.noise_floor(reference, 200, repeats=2)
    judgement = quality.judge(alternating, batch, reference=reference, floor=floor)
    assert float(judgement.per_problem["autocorrelation"].max()) < 0.1
    assert judgement.effective_reads == 200


def test_floor_of_problems_with_different_numbers_of_reads_is_that_of_each():
    reference = quality.reference_of(problems(4, groups=4, queries=5, fields=0.3))
    counts = torch.tensor([10.0, 100.0]).repeat(10).double()
    floor = quality.noise_floor(reference, counts, repeats=10)
    noise = ((1 - reference.mean.square()).mean(1) / counts).sqrt()
    measured = floor.values["mean_rms"].square().mean(0).sqrt()
    for part in (slice(0, None, 2), slice(1, None, 2)):
        # Mean squares of 10 problems and 10 repeats: relative error at most 1/√(2·10·10), that of
        # spins that move all together; 5 of them.
        relative = float((measured[part] / noise[part]).square().mean().sqrt())
        assert relative == pytest.approx(1, abs=5 / math.sqrt(2 * 10 * 10))


def test_kl_of_few_exact_reads_is_near_zero():
    """Without the correction for few reads it is near (states - 1)/(2 N) = 0.1 and above."""
    batch = problems(6, groups=8, queries=5, fields=0.3, couplings=0.2, seed=1)
    reference = quality.reference_of(batch)
    states = float(reference.effective_states.mean())
    reads = round(3 * states)
    values = torch.stack(
        [quality.measure(reference.draw(reads, seed), reference)["kl"] for seed in range(10)]
    )
    error = float(values.std()) / math.sqrt(values.numel())
    assert float(values.mean()) == pytest.approx(0, abs=5 * error + 0.02)
    assert (states - 1) / (2 * reads) > 5 * error + 0.06  # what the plug-in estimate would be


def test_intervals_of_beta_allow_for_errors_of_each_problem():
    """A device realises each problem with errors of its own: then problems are independent."""
    batch = problems(4, groups=25, queries=1, seed=2)
    noise = 1 + 0.3 * torch.randn(25, 1, 1, generator=torch.Generator().manual_seed(3)).double()
    samples = exact.sample(IsingBatch(batch.h * noise, batch.J * noise), 1000, seed=4)
    reference = quality.reference_of(batch)
    floor = quality.noise_floor(reference, 1000, repeats=2)
    judgement = quality.judge(samples, batch, reference=reference, floor=floor)
    assert judgement.betas.num_clusters == 25
    (low, high), _ = judgement.betas.interval()
    data = regression(split_by_problem(samples, batch), reference)
    of_reads = fit_betas(*data, clusters="reads").interval()[0]
    assert high - low > 2 * (of_reads[1] - of_reads[0])


def test_entropy_of_few_reads():
    def direct(counts):
        N, once, twice = sum(counts), counts.count(1), counts.count(2)
        A = 2 * twice / ((N - 1) * once + 2 * twice) if twice else 2 / ((N - 1) * (once - 1) + 2)
        seen = sum(x / N * sum(1 / k for k in range(x, N)) for x in counts)
        tail = -math.log(A) - sum((1 - A) ** r / r for r in range(1, N))
        return seen + once / N * (1 - A) ** (1 - N) * tail

    for counts in ([1, 1, 1, 2, 2, 5, 9], [1, 2, 4, 9], [1, 1, 1, 1], [1, 1, 9]):
        judgement = entropy(torch.tensor(counts, dtype=torch.float64))
        assert judgement == pytest.approx(direct(counts), rel=1e-9)
    assert entropy(torch.tensor([100.0, 100.0])) == pytest.approx(math.log(2), abs=0.01)
    # 200 reads of 500 equally likely states: the plug-in estimate is at most log 200.
    draws = torch.randint(500, (200,), generator=torch.Generator().manual_seed(0))
    assert entropy(draws.bincount().double()) == pytest.approx(math.log(500), abs=0.3)


def test_weights_are_counts():
    batch, _, _ = spread_problems()
    raw = exact.sample(batch, 50, seed=5)
    spins = torch.cat([raw.spins, raw.spins[:, :, :10]], 2)
    weights = torch.ones(8, 5, 60, dtype=torch.float64)
    weights[:, :, 10:50] = 2.0
    weights[:, :, 50:] = 5.0
    counted = SpinSamples(spins, weights)
    repeated = SpinSamples(spins.repeat_interleave(weights[0, 0].long(), 2))
    first, second = quality.judge(counted, batch), quality.judge(repeated, batch)
    for name, score in first.scores.items():
        assert score.value == pytest.approx(second.scores[name].value), name
        assert score.floor == pytest.approx(second.scores[name].floor), name
    assert "autocorrelation" not in first.scores
    dropped = quality.judge(SpinSamples(spins), batch)
    assert dropped.scores["mean_rms"].value != pytest.approx(first.scores["mean_rms"].value)


def test_wrong_signs_are_seen():
    batch, _, _ = spread_problems()
    of_h = judged(exact.sample(IsingBatch(-batch.h, batch.J), READS, seed=6)).scores
    assert of_h["mean_rms"].ratio > 10
    of_J = judged(exact.sample(IsingBatch(batch.h, -batch.J), READS, seed=6)).scores
    assert of_J["pair_rms"].ratio > 10
    for scores in (of_h, of_J):
        assert scores["gradient_h"].ratio > 3
        assert scores["beta_J"].ratio > 3 or scores["beta_h"].ratio > 3


@settings(max_examples=10)
@given(flips=st.lists(st.booleans(), min_size=4, max_size=4), order=st.permutations(range(4)))
def test_gauge_flips_and_permutations_leave_the_figures(flips, order):
    batch = problems(4, groups=3, queries=1)
    samples = exact.sample(batch, 200, seed=1)
    gauge = 1 - 2 * torch.tensor(flips, dtype=torch.int8)
    h = (batch.h * gauge)[..., order]
    J = (batch.J * gauge.unsqueeze(1) * gauge)[:, order][:, :, order]
    spins = (samples.spins * gauge)[..., order]
    names = set(quality.METRICS) - {"gradient_h", "gradient_J"}  # g is drawn for the new spins
    reference, turned = quality.reference_of(batch), quality.reference_of(IsingBatch(h, J))
    first = quality.measure(samples, reference)
    second = quality.measure(SpinSamples(spins), turned)
    for name in names:
        assert torch.allclose(first[name], second[name], rtol=1e-6, atol=1e-9), name


def test_lengths_beta_and_empty_queries_are_those_of_separate_problems():
    lengths = torch.tensor([4, 0, 2, 1])
    batch = problems(4, groups=2, queries=4, lengths=lengths, beta=0.8)
    samples = exact.sample(batch, 300, seed=2)
    together = quality.judge(samples, batch)
    assert together.is_exact
    assert len(together.per_problem["mean_rms"]) == 6
    alone = IsingBatch(0.8 * batch.h[1:, 2:3, :2], 0.8 * batch.J[1:, :2, :2])
    reference = quality.reference_of(alone)
    expected = quality.measure(SpinSamples(samples.spins[1:, 2:3, :, :2]), reference)
    for name in ("mean_rms", "pair_worst", "total_variation", "kl", "energy_distance", "beta_J"):
        assert float(together.per_problem[name][4]) == pytest.approx(float(expected[name])), name
    assert math.isnan(float(together.per_problem["pair_rms"][5]))  # one spin has no pairs
    assert together.to_dict()["per_problem"]["pair_rms"][5] is None


def test_long_run_stands_in_for_exact_values():
    # An open chain has ⟨s_j s_k⟩ = tanh(J)^|j - k|; 24 spins are beyond enumeration by default.
    n = 24
    J = torch.diag(torch.full((n - 1,), 0.5, dtype=torch.float64), 1)
    batch = IsingBatch(J.new_zeros(1, 1, n), (J + J.mT).unsqueeze(0))
    reference = quality.reference_of(batch, max_width=0, tempering_sweeps=1000)
    assert not reference.is_exact
    j = torch.arange(n)
    closed = math.tanh(0.5) ** (j.unsqueeze(0) - j.unsqueeze(1)).abs()
    below = torch.ones(n, n).tril(-1).bool()
    z = (reference.pairs[0] - closed)[below] / reference.pairs_error[0, below]
    assert (
        float(z.abs().max()) < 8
    )  # t of 31 degrees of freedom at 5 sigma, and a few hundred of it
    log_Z = n * math.log(2) + (n - 1) * math.log(math.cosh(0.5))
    assert abs(float(reference.log_Z) - log_Z) < 6 * float(reference.log_Z_error)
    floor = quality.noise_floor(reference, 500, repeats=20)
    at_floor = reference.draw(500, 3)
    judgement = quality.judge(at_floor, batch, reference=reference, floor=floor)
    assert not judgement.is_exact
    assert {"total_variation", "kl"}.isdisjoint(judgement.scores)
    assert (
        abs(judgement.scores["pair_rms"].ratio - 1) < 6 * judgement.scores["pair_rms"].ratio_error
    )
    exact_reads = exact.sample(batch, 500, seed=1)
    judgement = quality.judge(exact_reads, batch, reference=reference, floor=floor)
    assert (
        abs(judgement.scores["pair_rms"].ratio - 1) < 6 * judgement.scores["pair_rms"].ratio_error
    )
    cold = exact.sample(hotter(batch, 1.3), 500, seed=1)
    cold = quality.judge(cold, batch, reference=reference, floor=floor)
    assert cold.scores["energy_distance"].ratio > 3


@pytest.mark.slow
def test_twenty_spins_fit_into_time_and_memory():
    import resource
    import time

    generator = torch.Generator().manual_seed(0)
    h = torch.randn(50, 1, 20, generator=generator, dtype=torch.float64)
    J = 0.3 * torch.randn(50, 20, 20, generator=generator, dtype=torch.float64).triu(1)
    batch = IsingBatch(h, J + J.mT)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()  # whatever else the machine is doing
    reference = quality.reference_of(batch)
    judgement = quality.judge(reference.draw(READS, 1), batch, reference=reference)
    seconds = time.process_time() - start
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert abs(judgement.scores["total_variation"].ratio - 1) < 6 * 0.01
    assert not judgement.states_resolved
    assert seconds < 120
    assert grown < 2**20  # 1 GiB, in kiB


def test_wrong_calls_are_named():
    batch, reference, floor = spread_problems()
    samples = exact.sample(batch, 10, seed=0)
    with pytest.raises(ValueError, match="`floor` must be that of 10 reads, but is that of 1000"):
        quality.judge(samples, batch, reference=reference, floor=floor)
    with pytest.raises(ValueError, match="must be reads of"):
        quality.judge(SpinSamples(samples.spins[:1]), batch, reference=reference)
    with pytest.raises(ValueError, match="`repeats` must be at least 2"):
        quality.noise_floor(reference, 10, repeats=1)
    with pytest.raises(ValueError, match="`num_reads` must be positive"):
        quality.noise_floor(reference, 0)
    with pytest.raises(ValueError, match="must hold a query with spins"):
        quality.reference_of(IsingBatch(batch.h, batch.J, torch.zeros(5, dtype=torch.int64)))
    with pytest.raises(ValueError, match="must hold a read of every problem"):
        quality.judge(SpinSamples(samples.spins, torch.zeros(8, 5, 10)), batch, reference=reference)
    with pytest.raises(ValueError, match="at least 2 reads"):
        quality.integrated_time(torch.ones(1, 1))
    with pytest.raises(ValueError, match="`window` must be positive"):
        quality.integrated_time(torch.ones(5, 1), 0.0)


def test_autocorrelation_is_not_cyclic():
    """The sum over the pairs that there are, where the number of reads is a power of two too."""
    series = torch.randn(16, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    centred = series - series.mean(0)
    direct = torch.stack([(centred[: 16 - t] * centred[t:]).sum() for t in range(16)])
    torch.testing.assert_close(quality.autocorrelation(series), direct / direct[0])
