"""Sparse problems beyond enumeration are judged exactly."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from qattn import IsingBatch, exact, quality
from qattn.backends import parse_samplers
from qattn.compare import CompareSettings, compare
from qattn.compare.table import table
from qattn.compare.verdict import is_at_floor
from qattn.exact import memory, tree
from qattn.quality import drawn_reference, states
from qattn.quality.choose_reference import reference_of


def ladder(rungs, *, problems=3, field=1.0, seed=0, lengths=None):
    """Two coupled chains, spin 2r beside spin 2r + 1."""
    generator = torch.Generator().manual_seed(seed)
    n = 2 * rungs
    h = field * torch.randn(problems, 1, n, generator=generator, dtype=torch.float64)
    J = torch.randn(problems, n, n, generator=generator, dtype=torch.float64).triu(1)
    j = torch.arange(n)
    apart = j - j.unsqueeze(1)
    J = J * ((apart == 2) | ((apart == 1) & (j % 2 == 1)))
    return IsingBatch(h, J + J.mT, lengths)


@pytest.fixture
def few_reads(monkeypatch):
    monkeypatch.setattr(drawn_reference, "ENERGY_READS", 20_000)
    monkeypatch.setattr(drawn_reference, "POOL_READS", 20_000)


@pytest.mark.usefixtures("few_reads")
def test_equals_enumeration():
    lengths = torch.tensor([[12], [9], [1]])
    batch = ladder(6, lengths=lengths)
    found, expected = reference_of(batch, exact_spins=5), reference_of(batch)
    assert (found.kind, expected.kind) == ("tree decomposition", "enumeration")
    assert found.is_exact
    assert torch.equal(found.direction, expected.direction)
    known = found.known_pairs
    assert torch.equal(known, (batch.J != 0) & expected.known_pairs)
    assert int(known[1].sum()) == 2 * (4 + 7)
    pairs = [(found.mean, expected.mean), (found.log_Z, expected.log_Z)]
    pairs += [(found.pairs[known], expected.pairs[known])]
    pairs += [(found.gradient_h, expected.gradient_h)]
    pairs += [(found.gradient_J, expected.gradient_J * known)]
    pairs += [(found.effective_states, expected.effective_states)]
    for value, exact_value in pairs:
        torch.testing.assert_close(value, exact_value, rtol=1e-11, atol=1e-12)
    for energies, exact_energies in zip(found.energies, expected.energies, strict=True):
        error = exact_energies.sd / math.sqrt(20_000)
        assert energies.mean == pytest.approx(exact_energies.mean, abs=5 * error)


@pytest.mark.usefixtures("few_reads")
def test_reads_are_judged_beyond_enumeration():
    batch = ladder(40, problems=4)
    lines = []
    reference = reference_of(batch, progress=lines.append)
    assert len(lines) == 4
    assert "problem 2 of 4" in lines[1]
    assert lines[-1].endswith("s left")
    floor = quality.noise_floor(reference, 300, repeats=10, seed=1)
    judged = quality.judge(tree.sample(batch, 300, seed=2), batch, reference=reference, floor=floor)
    names = ("mean_rms", "pair_rms", "energy_distance", "gradient_h", "gradient_J")
    for name in names:
        score = judged.scores[name]
        assert abs(score.ratio - 1) < 6 * score.ratio_error, name
    assert not judged.states_resolved
    assert {"total_variation", "kl"} <= judged.scores.keys()
    hot = tree.sample(IsingBatch(batch.h, batch.J, beta=0.7), 300, seed=2)
    judged = quality.judge(hot, batch, reference=reference, floor=floor)
    for name in names:
        assert judged.scores[name].ratio > 1 + 6 * judged.scores[name].ratio_error, name
    low, high = judged.betas.interval()[0]
    assert low < 0.7 < high


@pytest.mark.usefixtures("few_reads")
def test_unresolved_distances_and_vanishing_gradients_decide_nothing():
    batch = ladder(25, problems=2, field=0.0)
    settings = CompareSettings(num_reads=100, floor_repeats=3)
    comparison = compare(parse_samplers("tree"), {"ladders": batch}, settings)
    (set_result,) = comparison.sets
    quality = set_result.judged["tree"]
    # Without fields ⟨s⟩ does not depend on J: the error is not divided by the rounding of 0.
    assert quality.scores["gradient_J"].floor < 100
    shown = table(set_result)
    assert "KL/nats" not in [str(column.header) for column in shown.columns]
    assert "tree decomposition" in str(shown.title)
    far = replace(quality.scores["kl"], ratio=100.0)
    wrong = replace(quality, scores=quality.scores | {"kl": far})
    assert is_at_floor(quality) == is_at_floor(wrong)
    assert not is_at_floor(replace(wrong, states_resolved=True))


@pytest.mark.usefixtures("few_reads")
def test_pairs_without_a_coupling_do_not_count():
    batch = ladder(7)
    reference = reference_of(batch, exact_spins=3)
    reads = tree.sample(batch, 200, seed=3)
    values = quality.measure(reads, reference)
    difference = reads.pair_correlations(torch.float64)[:, 0] - exact.pair_correlations(batch)[:, 0]
    chosen = (batch.J != 0).tril()
    squares = torch.stack([d[k].square().mean() for d, k in zip(difference, chosen, strict=True)])
    torch.testing.assert_close(values["pair_rms"], squares.sqrt())


@pytest.mark.usefixtures("few_reads")
def test_reads_of_the_floor_are_independent():
    reference = reference_of(ladder(15, problems=1))
    one, same, other = (reference.draw(200, seed).spins for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    # None twice: as many as the pool has are all of it. More are drawn anew.
    whole = [reference.draw(20_000, seed).mean_spins(torch.float64) for seed in (1, 2)]
    assert torch.equal(*whole)
    assert not torch.equal(whole[0], reference.draw(19_999, 1).mean_spins(torch.float64))
    assert reference.draw(30_000, 1).spins.shape == (1, 1, 30_000, 30)


def test_which_reference_a_batch_gets(monkeypatch):
    batch = ladder(6, problems=2)
    monkeypatch.setattr(drawn_reference, "ENERGY_READS", 10)
    monkeypatch.setattr(drawn_reference, "POOL_READS", 10)
    assert reference_of(batch, exact_spins=11).kind == "tree decomposition"
    assert reference_of(batch).kind == "enumeration"
    assert not drawn_reference.is_sparse(batch, max_width=1)
    n = 40
    dense = IsingBatch(torch.zeros(1, 1, n), 1 - torch.eye(n).unsqueeze(0))
    assert not drawn_reference.is_sparse(dense, max_width=25)
    monkeypatch.setattr(memory, "MEMORY_LIMIT", 500)
    assert not drawn_reference.is_sparse(batch, max_width=25)


@pytest.mark.parametrize("num_spins", [62, 63, 130])
def test_distances_over_states_take_any_number_of_spins(num_spins):
    # Free spins but three that are strongly biased; the rest are fixed by strong fields.
    h = torch.full((1, 1, num_spins), 30.0, dtype=torch.float64)
    chosen = [0, num_spins // 2, num_spins - 1]
    h[..., chosen] = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
    batch = IsingBatch(h, torch.zeros(1, num_spins, num_spins, dtype=torch.float64))
    samples = tree.sample(batch, 400, seed=1)
    log_p = -batch.energies(samples.spins)[:, 0] - samples.info["log_Z"]
    variation, divergence = states.distances(samples, log_p)
    small = IsingBatch(h[..., chosen], batch.J[:, :3, :3])
    spins = samples.spins[..., chosen]
    frequency = {
        s: float((spins[0, 0] == torch.tensor(s)).all(-1).double().mean())
        for s in itertools.product([-1, 1], repeat=3)
    }
    p = {
        s: float(exact.log_prob(small, torch.tensor(s)[None, None, None]).exp()) for s in frequency
    }
    expected = sum(abs(frequency[s] - p[s]) for s in p) / 2
    assert float(variation) == pytest.approx(expected, abs=1e-12)
    assert abs(float(divergence)) < 0.05
