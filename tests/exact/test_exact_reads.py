"""Independent exact reads against the distribution they are drawn from."""

import pytest
import torch
from _support.brute_force import all_states, random_couplings
from scipy import stats

from qattn import IsingBatch, exact
from qattn.exact.dense import reads
from qattn.ising.states import invert_cdf

P_LEAST = 5.7e-7  # two-sided 5 sigma


def state_counts(samples, g, q, n):
    """How often each state occurs; state i as in `all_states` (first spin: highest bit)."""
    bits = (samples.spins[g, q, :, :n].long() + 1) // 2
    index = (bits * 2 ** torch.arange(n - 1, -1, -1)).sum(-1)
    return torch.bincount(index, minlength=2**n).double()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("control", [None, "beta", "sign of J", "sign of h"])
def test_chi_square_over_all_states(n, control):
    # 20,000 reads of each of 2 x 2 queries; states of expected count below 10 are pooled. The
    # controls sample a model with one thing wrong and must fail in the test's own terms.
    if control == "sign of J" and n == 1:
        pytest.skip("one spin has no coupling")
    torch.manual_seed(n)
    J = random_couplings(2, n, 0.9, dtype=torch.float64)
    h = 0.6 * torch.randn(2, 2, n, dtype=torch.float64) + 0.3
    batch = IsingBatch(h, J, beta=0.8)
    wrong = {
        None: batch,
        "beta": IsingBatch(h, J, beta=1.2),
        "sign of J": IsingBatch(h, -J, beta=0.8),
        "sign of h": IsingBatch(-h, J, beta=0.8),
    }[control]
    samples = exact.sample(wrong, 20_000, seed=n)
    p_values = []
    for g in range(2):
        for q in range(2):
            S = all_states(n)[None, None].expand(2, 2, 2**n, n)
            expected = 20_000 * exact.log_prob(batch, S)[g, q].exp()
            counts = state_counts(samples, g, q, n)
            rare = expected < 10
            counts = torch.cat([counts[~rare], counts[rare].sum()[None]])
            expected = torch.cat([expected[~rare], expected[rare].sum()[None]])
            kept = expected > 0
            p_values.append(stats.chisquare(counts[kept], expected[kept]).pvalue)
    if control is None:
        assert min(p_values) > P_LEAST / len(p_values)
    else:
        assert min(p_values) < P_LEAST / len(p_values)


@pytest.mark.parametrize("control", [False, True])
def test_moments_of_sixteen_spins(control):
    # 5 sigma with Bonferroni over 16 means and 120 pairs of 3 queries; control: β off by 20%.
    torch.manual_seed(0)
    J = random_couplings(1, 16, 0.4, dtype=torch.float64)
    h = 0.5 * torch.randn(1, 3, 16, dtype=torch.float64)
    batch = IsingBatch(h, J)
    num_reads = 40_000
    drawn = IsingBatch(h, J, beta=1.2) if control else batch
    samples = exact.sample(drawn, num_reads, seed=5)
    rows, cols = torch.triu_indices(16, 16, 1)
    pairs = exact.pair_correlations(batch)[..., rows, cols]
    estimate = samples.pair_correlations(torch.float64)[..., rows, cols]
    estimated = torch.cat([samples.mean_spins(torch.float64), estimate], -1)
    expected = torch.cat([exact.mean_spins(batch), pairs], -1)
    sigma = ((1 - expected**2) / num_reads).sqrt()
    z = stats.norm.isf(P_LEAST / 2 / expected.numel())
    assert ((estimated - expected).abs() < z * sigma).all().item() is not control


def test_strong_couplings_draw_from_log_space():
    # Two states of equal weight, all up and all down; couplings of 200 hold in no product.
    J = 200.0 * (1 - torch.eye(9, dtype=torch.float64))[None]
    h = torch.zeros(1, 1, 9, dtype=torch.float64)
    h[..., 0], h[..., 1] = 900.0, -900.0
    spins = exact.sample(IsingBatch(h, J), 10_000, seed=0).spins
    assert (spins == spins[..., :1]).all()
    assert abs(spins[..., 0].double().mean()) < 5 / 100


def test_seeds_lengths_and_shapes():
    batch = IsingBatch(torch.zeros(2, 3, 5), torch.zeros(2, 5, 5), torch.tensor([5, 0, 2]))
    samples = exact.sample(batch, 7, seed=3)
    assert samples.spins.shape == (2, 3, 7, 5)
    assert samples.spins.dtype == torch.int8
    present = batch.active.unsqueeze(2).expand(2, 3, 7, 5)
    assert (samples.spins[present].abs() == 1).all()
    assert (samples.spins[~present] == 0).all()
    assert torch.equal(exact.sample(batch, 7, seed=3).spins, samples.spins)
    assert not torch.equal(exact.sample(batch, 7, seed=4).spins, samples.spins)
    torch.manual_seed(0)
    first = exact.sample(batch, 7).spins
    assert not torch.equal(exact.sample(batch, 7).spins, first)


def test_chunks_do_not_change_the_reads(monkeypatch):
    torch.manual_seed(0)
    batch = IsingBatch(torch.randn(2, 9, 7), random_couplings(2, 7, 0.5))
    whole = exact.sample(batch, 11, seed=0).spins
    monkeypatch.setattr(reads, "CHUNK_ELEMENTS", 500)
    assert torch.equal(exact.sample(batch, 11, seed=0).spins, whole)


def test_inverted_distribution_never_picks_weight_zero():
    weights = torch.tensor([0.0, 2.0, 0.0, 1.0, 0.0])
    uniforms = torch.tensor([0.0, 0.6, 0.7, 1 - 1e-16, 1.0], dtype=torch.float64)
    assert invert_cdf(weights, uniforms).tolist() == [1, 1, 3, 3, 3]
